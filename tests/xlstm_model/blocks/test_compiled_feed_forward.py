"""The feed-forward half of an sLSTM block in one compiled pass against its layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xlstm_model.blocks import SLSTMBlock
from xlstm_model.blocks.compiled_feed_forward import feed_forward_pass
from xlstm_model.native import library

pytestmark = pytest.mark.skipif(
    library.load_library() is None,
    reason="the compiled kernels are absent; run `python -m xlstm_model.native.build`",
)

SETTINGS = {
    "published": {},
    "no norm": {"norm": False},
    "no residual": {"residual": False},
    "odd inner width": {"inner_multiple": 1},
    "dropout": {"dropout": 0.4},
}


def _layers(block, y):
    normed = y if block.feed_forward_norm is None else block.feed_forward_norm(y)
    z = block.feed_forward(normed)
    return y + z if block.residual else z


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70)], ids=str)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_equals_the_layers(settings, shape, width, calls):
    library.load_library().xlstm_restrict_vectors(width)
    torch.manual_seed(0)
    block = SLSTMBlock(20, num_heads=2, **settings)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    given, up = torch.randn(*shape, 20), torch.randn(*shape, 20)
    parts = [block.feed_forward, *([block.feed_forward_norm] if block.feed_forward_norm else [])]
    leaves = [p for part in parts for p in part.parameters()]
    found = []
    for run in (feed_forward_pass, _layers):
        torch.manual_seed(7)
        y = given.clone().requires_grad_()
        out = run(block, y)
        found.append([out, *torch.autograd.grad(out, [y, *leaves], up)])
    assert calls == ["feed_forward", "feed_forward_backward"]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_gate_is_accurate_over_its_whole_range(calls):
    block = SLSTMBlock(1, num_heads=1, norm=False, residual=False, inner_multiple=1)
    with torch.no_grad():
        for layer in (block.feed_forward.proj_up, block.feed_forward.proj_down):
            layer.weight.zero_()
        block.feed_forward.proj_up.weight[0] = 1.0
        block.feed_forward.proj_up.weight[block.feed_forward.inner_features] = 1.0
        block.feed_forward.proj_down.weight[0, 0] = 1.0
        x = torch.linspace(-12, 12, 4001)[:, None]
        wide = x.double()
        expected = F.gelu(wide) * wide
        error = (feed_forward_pass(block, x).double() - expected).abs()
    assert calls == ["feed_forward"]
    assert (error <= 4e-7 * (wide * wide).clamp(max=144)).all()


def test_other_layers_are_left_alone():
    block, y = SLSTMBlock(8, num_heads=2), torch.randn(2, 3, 8)
    assert feed_forward_pass(block, y) is not None
    assert feed_forward_pass(block, y.double()) is None
    block.feed_forward.proj_up.register_forward_hook(lambda module, args, output: 0 * output)
    assert feed_forward_pass(block, y) is None
    assert torch.equal(block._output(y, y.unflatten(-1, (2, 4))), _half(block, y))


def _half(block, y):
    return y + block.head_merge(y.unflatten(-1, (2, 4)))
