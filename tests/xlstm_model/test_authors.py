"""Blocks and stacks against frozen vectors of the authors' package (xlstm 2.0.6, float64)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlstm_model import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock, XLSTMStack
from xlstm_model.authors import convert_authors_state_dict, load_authors_state_dict
from xlstm_model.blocks import MLSTMBlockState

AUTHORS_EPS = 1e-6
CASES = [("mlstm_block", "m"), ("slstm_block", "s"), ("mlstm_stack2", "mm")]


@pytest.fixture(scope="module")
def vectors(repository: Path) -> dict[str, torch.Tensor]:
    with np.load(repository / "tests" / "golden" / "authors_blocks.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _stack(vectors, case, pattern, eps=AUTHORS_EPS, **settings):
    stack = XLSTMStack(16, pattern, num_heads=2, eps=eps, **settings).double()
    load_authors_state_dict(stack, vectors, prefix=f"{case}.param.")
    return stack


@pytest.mark.parametrize("form", ["parallel", "chunkwise"])
@pytest.mark.parametrize(("case", "pattern"), CASES)
def test_outputs_and_every_gradient_equal_the_authors(vectors, case, pattern, form):
    stack = _stack(vectors, case, pattern, mlstm_form=form, chunk_size=7)
    x = vectors[f"{case}.x"].clone().requires_grad_()
    y, _ = stack(x)
    y.backward(vectors[f"{case}.cotangent_y"])
    torch.testing.assert_close(y, vectors[f"{case}.y"], atol=1e-9, rtol=0)
    torch.testing.assert_close(x.grad, vectors[f"{case}.grad.x"], atol=1e-9, rtol=0)
    expected = convert_authors_state_dict(stack, vectors, prefix=f"{case}.gradparam.")
    for name, parameter in stack.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-9, rtol=0, msg=name)


@pytest.mark.parametrize(("case", "pattern"), CASES)
def test_without_eps_outputs_stay_within_1e_5(vectors, case, pattern):
    stack = _stack(vectors, case, pattern, eps=0.0)
    y, _ = stack(vectors[f"{case}.x"])
    torch.testing.assert_close(y, vectors[f"{case}.y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("case", "pattern"), CASES)
def test_steps_equal_the_authors_steps(vectors, case, pattern):
    stack = _stack(vectors, case, pattern)
    x, state = vectors[f"{case}.x"], stack.initial_state(2)
    # With eps the result depends on the scale; their steps start at m = 0, ours at -inf.
    state = tuple(
        part._replace(cell=part.cell._replace(m=torch.zeros_like(part.cell.m)))
        if isinstance(part, MLSTMBlockState)
        else part
        for part in state
    )
    outputs = []
    for position in range(x.shape[1]):
        y, state = stack.step(x[:, position], state)
        outputs.append(y)
    expected = vectors[f"{case}.y_step"]
    torch.testing.assert_close(torch.stack(outputs, 1), expected, atol=1e-9, rtol=0)


def test_golden_copy_is_that_of_the_reference_file(vectors, shared_dir):
    with np.load(shared_dir / "parity" / "reference.npz") as file:
        for name, tensor in vectors.items():
            assert np.array_equal(file[name], tensor.numpy()), name


def test_one_block_loads_from_a_stack(vectors):
    block = SLSTMBlock(16, num_heads=2).double()
    load_authors_state_dict(block, vectors, prefix="slstm_block.param.blocks.0.")
    stack = _stack(vectors, "slstm_block", "s")
    x = vectors["slstm_block.x"]
    assert torch.equal(stack.norm(block(x)[0]), stack(x)[0])


def test_all_four_convolved_gates_take_the_authors_weights(vectors):
    block = SLSTMBlock(16, num_heads=2, conv_gates="ifzo").double()
    load_authors_state_dict(block, vectors, prefix="slstm_block.param.blocks.0.")
    weight = vectors["slstm_block.param.blocks.0.xlstm.zgate.weight"]
    assert torch.equal(block.convolved_gates.weight[:, 16:24], weight)


def test_gate_modules_of_the_slstm_are_swapped_back(vectors):
    block = SLSTMBlock(16, num_heads=2).double()
    load_authors_state_dict(block, vectors, prefix="slstm_block.param.blocks.0.")
    prefix = "slstm_block.param.blocks.0.xlstm."
    i_slot, f_slot = block.convolved_gates.weight.split(8, dim=1)
    assert torch.equal(i_slot, vectors[f"{prefix}fgate.weight"])
    assert torch.equal(f_slot, vectors[f"{prefix}igate.weight"])


def _large_weights(block: MLSTMLargeBlock) -> dict[str, torch.Tensor]:
    """The block's weights under the authors' names, with their layouts."""
    own = block.state_dict()
    gate, up = own["feed_forward.proj_up.weight"].chunk(2)
    names = {
        "mlstm_layer.q.weight": own["q_proj.weight"],
        "mlstm_layer.k.weight": own["k_proj.weight"],
        "mlstm_layer.v.weight": own["v_proj.weight"],
        "mlstm_layer.ogate_preact.weight": own["ogate.weight"],
        "mlstm_layer.igate_preact.weight": own["igate.weight"],
        "mlstm_layer.igate_preact.bias": own["igate.bias"],
        "mlstm_layer.fgate_preact.weight": own["fgate.weight"],
        "mlstm_layer.fgate_preact.bias": own["fgate.bias"],
        "mlstm_layer.out_proj.weight": own["proj_down.weight"],
        "ffn.proj_up_gate.weight": gate,
        "ffn.proj_up.weight": up,
        "ffn.proj_down.weight": own["feed_forward.proj_down.weight"],
    }
    for theirs, ours in (
        ("norm_mlstm", "norm"),
        ("mlstm_layer.multihead_norm", "head_merge.norm"),
        ("norm_ffn", "feed_forward_norm"),
    ):
        names[f"{theirs}.weight"] = own[f"{ours}.weight"] + 1
    return {f"backbone.blocks.0.{name}": tensor for name, tensor in names.items()}


def test_weights_of_the_7b_style_model_load_with_their_scale_norms():
    source = XLSTMStack(8, "m", mlstm_block="large", num_heads=2)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    weights = _large_weights(source.blocks[0])
    weights["backbone.out_norm.weight"] = source.norm.weight.detach() + 1
    weights["lm_head.weight"] = torch.zeros(3, 8)
    target = XLSTMStack(8, "m", mlstm_block="large", num_heads=2)
    load_authors_state_dict(target, weights, prefix="backbone.")
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(target(x)[0], source(x)[0])


def test_missing_surplus_and_misshapen_entries_are_named(vectors):
    weights = {k: v for k, v in vectors.items() if k.startswith("mlstm_block.param.")}
    prefix = "mlstm_block.param."
    stack = XLSTMStack(16, "m", num_heads=2).double()
    del weights[f"{prefix}blocks.0.xlstm.learnable_skip"]
    with pytest.raises(ValueError, match=r"lacks blocks\.0\.xlstm\.learnable_skip"):
        load_authors_state_dict(stack, weights, prefix=prefix)
    with pytest.raises(ValueError, match=r"blocks\.1\.xlstm"):
        load_authors_state_dict(stack, vectors, prefix="mlstm_stack2.param.")
    with pytest.raises(ValueError, match=r"norm\.weight has shape"):
        load_authors_state_dict(XLSTMStack(8, "m", num_heads=2), vectors, prefix=prefix)
    with pytest.raises(TypeError, match="module is Linear"):
        load_authors_state_dict(torch.nn.Linear(1, 1), vectors, prefix=prefix)
    assert isinstance(stack.blocks[0], MLSTMBlock)
