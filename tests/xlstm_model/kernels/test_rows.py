"""Norms on GPUs, and what an mLSTM block makes of its cell's outputs, against float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.xlstm_model.kernels.comparison import assert_equal, draw
from xlstm_model.kernels import library, rows
from xlstm_model.layers import FeatureNorm, HeadwiseNorm, gated_merge

pytestmark = pytest.mark.usefixtures("poisoned")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"]
)
SHAPES = pytest.mark.parametrize(
    ("shape", "num_heads"),
    [((3, 5, 7), 1), ((41, 24), 3), ((2, 150, 128), 4), ((300, 4), 4), ((2, 5000), 1)],
    ids=["narrow", "odd", "long", "heads of one", "wide"],
)


def _leaf(shape, rng, dtype, device, scale=1.0):
    if dtype == torch.bfloat16:
        return (torch.randn(shape, generator=rng) * scale).to(device, dtype).requires_grad_()
    return draw(shape, rng, dtype, device, scale)


def _norm(x, weight, num_heads, center, eps=1e-5):
    groups = x.unflatten(-1, (num_heads, -1))
    shape = groups.shape[-1:]
    kind = F.layer_norm if center else F.rms_norm
    normal = kind(groups, shape, None, None, eps) if center else kind(groups, shape, None, eps)
    normal = normal.flatten(-2)
    return normal if weight is None else normal * (1 + weight)


@DTYPES
@SHAPES
@pytest.mark.parametrize("center", [True, False], ids=["layer", "rms"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weight", "plain"])
def test_norms_equal_their_formula(rng, device, dtype, shape, num_heads, center, weighted):
    leaves = [_leaf(shape, rng, dtype, device, 2.0)]
    if weighted:
        leaves.append(_leaf(shape[-1:], rng, torch.float32, device))

    def run(x, weight=None):
        return (rows.normalize(x, weight, num_heads, center=center, eps=1e-5),)

    def reference(x, weight=None):
        return (_norm(x, weight, num_heads, center),)

    # A head of one feature has no spread: its norm is 0, its gradient none.
    assert_equal(run, reference, leaves, (0,), TOLERANCE[dtype])


@DTYPES
@SHAPES
@pytest.mark.parametrize("weighted", [True, False], ids=["norm", "no norm"])
def test_merge_equals_its_formula(rng, device, dtype, shape, num_heads, weighted):
    leaves = [_leaf(shape, rng, dtype, device) for _ in range(3)]
    leaves += [_leaf(shape[-1:], rng, torch.float32, device) for _ in range(1 + weighted)]

    def run(h, mixed, z, skip, weight=None):
        return (rows.merge(h, mixed, z, weight, skip, num_heads, 1e-5),)

    def reference(h, mixed, z, skip, weight=None):
        merged = h if weight is None else _norm(h, weight, num_heads, True)
        return ((merged + skip * mixed) * F.silu(z),)

    assert_equal(run, reference, leaves, (0,), TOLERANCE[dtype])


def test_rows_may_lie_in_wider_ones(rng, device):
    wide = _leaf((3, 5, 40), rng, torch.float32, device)
    weight = _leaf((16,), rng, torch.float32, device)

    def run(x, weight):
        return (rows.normalize(x[..., 7:23], weight, 2, center=True, eps=1e-5),)

    def reference(x, weight):
        return (_norm(x[..., 7:23], weight, 2, True),)

    assert_equal(run, reference, [wide, weight], (0,), 1e-5)
    assert_equal(
        lambda x, w: run(x.transpose(0, 1), w),
        lambda x, w: reference(x.transpose(0, 1), w),
        [wide, weight],
        (0,),
        1e-5,
    )


def test_the_layers_take_them(rng, device, monkeypatch):
    called = []
    for name in ("normalize", "merge"):
        run = getattr(rows, name)
        monkeypatch.setattr(
            rows, name, lambda *x, _run=run, _name=name, **y: called.append(_name) or _run(*x, **y)
        )
    x = _leaf((2, 3, 2, 8), rng, torch.float32, device)
    norm, feature_norm = (layer.to(device) for layer in (HeadwiseNorm(2, 8), FeatureNorm(16)))
    flat = x.flatten(-2)

    def work():
        merged = gated_merge(x, norm, torch.ones(16, device=device), flat, flat)
        return norm(x), feature_norm(flat), merged

    found = work()
    assert called == ["merge", "normalize", "normalize"]
    with library.disabled():
        expected = work()
    assert len(called) == 3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("for_product", [False, True])
def test_dtypes_under_autocast(rng, device, for_product):
    norm = FeatureNorm(16, for_product=for_product).to(device)
    x = _leaf((4, 16), rng, torch.float32, device)
    with torch.autocast(device.type, torch.bfloat16):
        y = norm(x)
        merged = gated_merge(
            x.unflatten(-1, (2, 8)), None, torch.ones(16, device=device), x, x.bfloat16()
        )
    assert y.dtype == (torch.bfloat16 if for_product else torch.float32)
    assert merged.dtype == torch.bfloat16
    (y.float().sum() + merged.float().sum()).backward()
    assert x.grad.dtype == torch.float32


def test_second_derivatives_are_refused(rng, device):
    x = _leaf((2, 8), rng, torch.float32, device)
    y = rows.normalize(x, None, 1, center=True, eps=1e-5)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize("width", [4, 32])
def test_other_widths_are_refused_as_without_kernels(rng, device, width):
    with pytest.raises(RuntimeError):
        FeatureNorm(16).to(device)(torch.zeros(2, width, device=device))
    with pytest.raises(RuntimeError):
        HeadwiseNorm(2, 8).to(device)(torch.zeros(3, 2, width, device=device))


@pytest.mark.parametrize("shape", [(1, 1, 16), (2, 1, 16), (16,)])
def test_shapes_that_broadcast(rng, device, shape):
    h = _leaf((2, 3, 2, 8), rng, torch.float32, device)
    one, whole = (_leaf(x, rng, torch.float32, device) for x in (shape, (2, 3, 16)))
    skip, norm = torch.ones(16, device=device), HeadwiseNorm(2, 8).to(device)
    for mixed, z in ((one, whole), (whole, one)):
        found = gated_merge(h, norm, skip, mixed, z)
        with library.disabled():
            expected = gated_merge(h, norm, skip, mixed, z)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_hooks_see_what_passes(rng, device):
    norm = HeadwiseNorm(2, 8).to(device)
    norm.register_forward_hook(lambda module, given, y: y + 100)
    x = _leaf((2, 3, 2, 8), rng, torch.float32, device).detach()
    flat = x.flatten(-2)
    skip = torch.zeros(16, device=device)
    merged = gated_merge(x, norm, skip, flat, flat)
    torch.testing.assert_close(merged, norm(x) * F.silu(flat), rtol=1e-5, atol=1e-4)


def test_norms_pickled_before_there_was_a_choice(rng, device):
    norm = FeatureNorm(16, for_product=True).to(device)
    del norm.for_product
    assert norm(_leaf((4, 16), rng, torch.float32, device)).dtype == torch.float32


def test_compilers_and_transforms_see_the_layers(device, monkeypatch):
    x = torch.ones(1, device=device)
    assert library.fits_layer(x)
    for module, name in ((torch.compiler, "is_compiling"), (torch.compiler, "is_exporting")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda: True)
            assert not library.fits_layer(x)
    seen = []
    torch.func.vmap(lambda row: seen.append(library.fits_layer(row)) or row)(x)
    assert seen == [False]
