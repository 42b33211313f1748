"""The strip-down ladder ends at what torch itself calls LSTM and RNN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import ABLATION_RUNGS, SLSTMBlock, XLSTMStack, ablation_settings
from xlstm_model.blocks import MLSTMBlock

FULL = {"embedding_dim": 8, "pattern": "msm", "num_heads": 2, "dropout": 0.0}


def _copy_lstm(stack: XLSTMStack, theirs: nn.LSTM) -> None:
    """Give ``nn.LSTM`` (gates i, f, g, o; two biases) the weights of our bare blocks."""
    for layer, block in enumerate(stack.blocks):
        weights = {
            "weight_ih": block.raw_gates.weight[0],
            "weight_hh": block.recurrence.recurrent_weight[0].flatten(1).T,
            "bias_ih": block.recurrence.bias[0].flatten(),
            "bias_hh": torch.zeros_like(block.recurrence.bias[0].flatten()),
        }
        for name, tensor in weights.items():
            getattr(theirs, f"{name}_l{layer}").data.copy_(tensor)


@pytest.mark.parametrize(("rung", "peer"), [("vanilla_lstm", nn.LSTM), ("vanilla_rnn", nn.RNN)])
def test_last_rungs_equal_torch_forward_backward_and_states(make_stack, rung, peer):
    settings = ablation_settings(rung, FULL)
    settings.pop("embedding_dim")
    stack = make_stack(settings.pop("pattern"), **settings)
    with torch.no_grad():
        for block in stack.blocks:
            block.recurrence.recurrent_weight.normal_(std=0.4)
    theirs = peer(8, 8, num_layers=3, batch_first=True).double()
    _copy_lstm(stack, theirs)
    inputs = [torch.randn(2, 7, 8, dtype=torch.float64)] * 2
    inputs = [x.clone().requires_grad_() for x in inputs]
    (ours, state), (other, last) = stack(inputs[0]), theirs(inputs[1])
    torch.testing.assert_close(ours, other, atol=1e-12, rtol=0)
    for y in (ours, other):
        y.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-12, rtol=0)
    gradient = stack.blocks[1].recurrence.recurrent_weight.grad[0].flatten(1).T
    torch.testing.assert_close(gradient, theirs.weight_hh_l1.grad, atol=1e-12, rtol=0)
    h = last[0] if rung == "vanilla_lstm" else last
    for layer in range(3):
        torch.testing.assert_close(state[layer].cell.h[:, 0], h[layer], atol=1e-12, rtol=0)


def test_last_rungs_have_no_parameter_torch_has_not():
    for rung, peer in (("vanilla_lstm", nn.LSTM(8, 8, 3)), ("vanilla_rnn", nn.RNN(8, 8, 3))):
        ours = sum(p.numel() for p in XLSTMStack(**ablation_settings(rung, FULL)).parameters())
        doubled = sum(p.numel() for n, p in peer.named_parameters() if n.startswith("bias_hh"))
        assert ours == sum(p.numel() for p in peer.parameters()) - doubled


@pytest.mark.parametrize("rung", ABLATION_RUNGS)
def test_every_rung_is_causal_trains_and_steps(rung):
    torch.manual_seed(0)
    stack = XLSTMStack(**ablation_settings(rung, FULL)).double()
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    y, _ = stack(x)
    (y * torch.randn_like(y)).sum().backward()
    recurrent = {"recurrent_weight"} if rung != "no_slstm" else set()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name.split(".")[-1] in recurrent, name
    changed = x.clone()
    changed[:, 4:] += torch.randn_like(changed[:, 4:])
    assert torch.equal(stack(changed)[0][:, :4], y[:, :4])
    _, state = stack(x[:, :5])
    torch.testing.assert_close(stack.step(x[:, 5], state)[0], y[:, 5], atol=1e-10, rtol=0)


def test_each_rung_takes_out_what_it_says():
    stacks = {rung: XLSTMStack(**ablation_settings(rung, FULL)) for rung in ABLATION_RUNGS}
    assert all(isinstance(b, SLSTMBlock) for b in stacks["no_mlstm"].blocks)
    assert all(isinstance(b, MLSTMBlock) for b in stacks["no_slstm"].blocks)
    assert stacks["full"].pattern == stacks["no_residual_no_norm"].pattern == "msm"
    gates = {r: s.settings["gate"] for r, s in stacks.items()}
    assert [r for r, g in gates.items() if g == "exp"] == ["full", "no_mlstm", "no_slstm"]
    assert stacks["sigmoid_gates"].blocks[0].recurrence.normalizer
    assert not stacks["no_normalizer"].blocks[0].recurrence.normalizer
    assert stacks["no_normalizer"].blocks[0].conv is not None
    assert stacks["no_convolution"].blocks[0].conv is None
    assert stacks["no_convolution"].blocks[0].residual
    bare = stacks["no_residual_no_norm"]
    assert not any(b.residual for b in bare.blocks)
    assert not [n for n, _ in bare.named_parameters() if "norm" in n]


def test_without_normaliser_the_matrix_memory_is_decayed_linear_attention(make_stack):
    cell = make_stack("m", gate="sigmoid", mlstm_normalizer=False).blocks[0].recurrence
    q, k, v = (torch.randn(1, 2, 70, 32, dtype=torch.float64) for _ in range(3))
    i, f = (torch.randn(1, 2, 70, dtype=torch.float64) for _ in range(2))
    h, _ = cell(q, k, v, i, f)
    c = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    for t in range(70):
        outer = k[:, :, t, :, None] * v[:, :, t, None, :] / 32**0.5
        c = (
            f[:, :, t].sigmoid()[..., None, None] * c
            + i[:, :, t].sigmoid()[..., None, None] * outer
        )
        expected = (q[:, :, t, None] @ c).squeeze(2)
        torch.testing.assert_close(h[:, :, t], expected, atol=1e-10, rtol=0)


def test_unknown_rung_is_refused():
    with pytest.raises(ValueError, match="rung is 'no_cell'; expected one of full, no_mlstm"):
        ablation_settings("no_cell", FULL)
