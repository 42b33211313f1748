"""Fused layers around the cells: with kernels and without, against the layers one after another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from xlstm_model.layers import (
    BlockDiagonalLinear,
    CausalConv1d,
    HeadwiseNorm,
    conv_silu,
    gated_merge,
    mlstm_inputs,
)
from xlstm_model.layers.fused import linear_side_by_side
from xlstm_model.native import library

HAS_KERNELS = library.load_library() is not None


class Front(nn.Module):
    """The parts that stand before an mLSTM cell, and their composition without fusion."""

    def __init__(self, channels: int, kernel_size: int, heads: int, group: int = 4) -> None:
        super().__init__()
        self.conv = CausalConv1d(channels, kernel_size) if kernel_size else None
        groups = channels // group
        self.project = nn.ModuleList(
            BlockDiagonalLinear(channels, channels, groups, bias=False) for _ in range(3)
        )
        self.gates = nn.ModuleList(nn.Linear(3 * channels, heads) for _ in range(2))

    def fused(self, x, mask, state):
        inputs, state = mlstm_inputs(
            self.conv, tuple(self.project), tuple(self.gates), x, mask, state
        )
        return (*inputs, state)

    def apart(self, x, mask, state):
        y, after = (x, x[:, :0]) if self.conv is None else self.conv(x, mask, state)
        mixed = F.silu(y)
        q, k, v = (p(y) for p, y in zip(self.project, (mixed, mixed, x), strict=True))
        preacts = [gate(torch.cat([q, k, v], -1)) for gate in self.gates]
        return mixed, q, k, v, *preacts, after


def _assert_equal(run, expected, leaves, mask, tolerance):
    """Results at real positions, and gradients of a random combination of them."""
    both = []
    for function in (run, expected):
        results = function()
        rng = torch.Generator().manual_seed(3)
        total = 0.0
        for number, result in enumerate(results):
            if mask is not None and result.shape[:2] == mask.shape:
                results = list(results)
                results[number] = result = torch.where(mask[..., None], result, 0.0)
            total = total + (result * torch.randn(result.shape, generator=rng)).sum()
        grads = torch.autograd.grad(total, leaves, materialize_grads=True)
        both.append([*results, *grads])
    for number, (a, b) in enumerate(zip(*both, strict=True)):
        assert a.shape == b.shape
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-2) if b.numel() else 0.0
        assert error <= tolerance, f"tensor {number}: {error:.1e}"


@pytest.mark.skipif(not HAS_KERNELS, reason="the compiled kernels are absent")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mlstm_inputs_equal_the_layers_apart(data):
    B, S, groups = (data.draw(st.integers(1, top)) for top in (3, 70, 12))
    kernel_size, heads = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 3))
    library.load_library().xlstm_restrict_vectors(data.draw(st.sampled_from([4, 8, 16])))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    front, channels = Front(4 * groups, kernel_size, heads), 4 * groups
    share = data.draw(st.sampled_from([None, 0.1, 0.7]))
    mask = None if share is None else torch.rand(B, S) < share
    wide = torch.randn(B, S, 2 * channels, requires_grad=True)
    state, leaves = None, [wide, *front.parameters()]
    if kernel_size and data.draw(st.booleans()):
        state = torch.randn(B, kernel_size - 1, channels, requires_grad=True)
        leaves.append(state)

    def inner():
        x = wide.chunk(2, dim=-1)[0]
        return x if mask is None else torch.where(mask[..., None], x, 0.0)

    try:
        _assert_equal(
            lambda: front.fused(inner(), mask, state),
            lambda: front.apart(inner(), mask, state),
            leaves,
            mask,
            1e-4,
        )
    finally:
        library.load_library().xlstm_restrict_vectors(16)


@pytest.mark.parametrize("kernels", ["compiled", "torch"])
@pytest.mark.parametrize("kernel_size", [0, 1, 4, 9])
@pytest.mark.parametrize("channels", [1, 20])
def test_conv_silu_equals_convolution_then_silu(kernels, kernel_size, channels):
    torch.manual_seed(0)
    conv = CausalConv1d(channels, kernel_size) if kernel_size else None
    x = torch.randn(3, 70, channels, requires_grad=True)
    mask = torch.rand(3, 70) < 0.6
    state = torch.randn(3, kernel_size - 1, channels, requires_grad=True) if conv else None
    leaves = [x] if conv is None else [x, state, *conv.parameters()]

    def apart():
        y, after = (x, x[:, :0]) if conv is None else conv(x, mask, state)
        return F.silu(y), after

    def fused():
        if kernels == "compiled":
            return conv_silu(conv, x, mask, state)
        with library.disabled():
            return conv_silu(conv, x, mask, state)

    _assert_equal(fused, apart, leaves, mask, 1e-5)


@pytest.mark.parametrize("kernels", ["compiled", "torch"])
def test_a_state_may_have_any_strides(kernels):
    torch.manual_seed(0)
    conv, x = CausalConv1d(6, 4), torch.randn(2, 9, 6, requires_grad=True)
    wide = torch.randn(2, 12, 6, requires_grad=True)
    leaves = [x, wide, *conv.parameters()]

    def apart():
        y, after = conv(x, None, wide[:, 2:11:3])
        return F.silu(y), after

    def fused():
        if kernels == "compiled":
            return conv_silu(conv, x, None, wide[:, 2:11:3])
        with library.disabled():
            return conv_silu(conv, x, None, wide[:, 2:11:3])

    _assert_equal(fused, apart, leaves, None, 1e-5)


def test_padding_may_hold_anything():
    torch.manual_seed(0)
    front, x = Front(16, 4, 2), torch.randn(2, 9, 16)
    mask = torch.rand(2, 9) < 0.6
    dirty = torch.where(mask[..., None], x, float("nan")).requires_grad_()
    y, _ = conv_silu(front.conv, dirty, mask)
    y.sum().backward()
    assert torch.equal(y[~mask], torch.zeros_like(y[~mask]))
    assert dirty.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in front.conv.parameters())


@pytest.mark.parametrize("group", [1, 2, 8])
def test_groups_of_other_sizes_run_in_torch_operations(group):
    torch.manual_seed(0)
    front, x = Front(16, 4, 2, group), torch.randn(2, 9, 16, requires_grad=True)
    leaves = [x, *front.parameters()]
    _assert_equal(
        lambda: front.fused(x, None, None), lambda: front.apart(x, None, None), leaves, None, 1e-5
    )


@pytest.mark.parametrize("kernels", ["compiled", "torch"])
@pytest.mark.parametrize(("heads", "width"), [(1, 1), (2, 3), (3, 16), (2, 40)])
@pytest.mark.parametrize("normed", [False, True])
def test_gated_merge_equals_its_formula(kernels, heads, width, normed):
    torch.manual_seed(0)
    channels = heads * width
    norm = HeadwiseNorm(heads, width) if normed else None
    if normed:
        nn.init.normal_(norm.weight)
    h = torch.randn(2, heads, 5, width, requires_grad=True)
    mixed, wide = torch.randn(2, 5, channels), torch.randn(2, 5, 2 * channels)
    skip = torch.randn(channels)
    leaves = [h, *(t.requires_grad_() for t in (mixed, wide, skip))]
    leaves += list(norm.parameters()) if normed else []

    def apart():
        merged = h.transpose(1, 2)
        merged = norm(merged) if normed else merged.flatten(2)
        return [(merged + skip * mixed) * F.silu(wide[..., channels:])]

    def fused():
        arguments = (h.transpose(1, 2), norm, skip, mixed, wide[..., channels:])
        if kernels == "compiled":
            return [gated_merge(*arguments)]
        with library.disabled():
            return [gated_merge(*arguments)]

    _assert_equal(fused, apart, leaves, None, 1e-4)


def test_float64_gradients():
    torch.manual_seed(0)
    front = Front(8, 3, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 0, 0]], dtype=torch.bool)
    norm = HeadwiseNorm(2, 4).double()

    def run(x):
        mixed, q, k, v, i, f, state = front.fused(torch.where(mask[..., None], x, 0.0), mask, None)
        merged = gated_merge(q.unflatten(-1, (2, 4)), norm, x[0, 0], mixed, v)
        return k, i, f, state, merged

    assert torch.autograd.gradcheck(run, (x,))


@pytest.mark.parametrize("part", ["conv", "project", "gates"])
def test_hooks_see_what_passes(part):
    torch.manual_seed(0)
    front, x = Front(8, 4, 2), torch.randn(2, 5, 8)
    layer = getattr(front, part)
    layer = layer if part == "conv" else layer[0]
    before = front.fused(x, None, None)
    if part == "conv":
        layer.register_forward_hook(lambda module, given, found: (found[0] + 1, found[1]))
    else:
        layer.register_forward_hook(lambda module, given, found: found + 1)
    changed = front.fused(x, None, None)
    for a, b in zip(changed, front.apart(x, None, None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not all(torch.equal(a, b) for a, b in zip(before, changed, strict=True))


def test_gates_may_lack_a_bias():
    torch.manual_seed(0)
    front, x = Front(8, 4, 2), torch.randn(2, 5, 8)
    front.gates = nn.ModuleList(nn.Linear(24, 2, bias=False) for _ in range(2))
    for a, b in zip(front.fused(x, None, None), front.apart(x, None, None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_layers_side_by_side_are_one_product():
    torch.manual_seed(0)
    layers, x = (nn.Linear(4, 3), nn.Linear(4, 3)), torch.randn(2, 5, 4)
    for layer, y in zip(layers, linear_side_by_side(layers, x), strict=True):
        torch.testing.assert_close(y, layer(x))
