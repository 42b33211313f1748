"""Norms: their formulas, and that nothing leaks between heads, positions or samples."""

from __future__ import annotations

import pytest
import torch

from xlstm_model.layers import FeatureNorm, HeadwiseNorm


def _expected(x, kind, eps):
    if kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_feature_norm_equals_its_formula(kind):
    norm = FeatureNorm(6, kind=kind).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(x), _expected(x, kind, 1e-5) * (1 + norm.weight))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_headwise_norm_equals_its_formula_per_head(kind):
    norm = HeadwiseNorm(3, 4, kind=kind, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    h = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    expected = _expected(h, kind, 1e-3).flatten(-2) * (1 + norm.weight)
    torch.testing.assert_close(norm(h), expected)


def test_headwise_norm_mixes_neither_heads_nor_positions_nor_samples():
    norm = HeadwiseNorm(2, 4)
    h = torch.randn(2, 3, 2, 4)
    changed = h.clone()
    changed[1, 2, 1] *= 100.0
    before, after = norm(h).unflatten(-1, (2, 4)), norm(changed).unflatten(-1, (2, 4))
    is_other = torch.ones(2, 3, 2, dtype=torch.bool)
    is_other[1, 2, 1] = False
    assert torch.equal(before[is_other], after[is_other])


def test_weights_start_at_scale_1_and_a_head_of_size_1_gives_0():
    assert torch.equal(FeatureNorm(3).weight, torch.zeros(3))
    assert torch.equal(HeadwiseNorm(2, 1)(torch.randn(4, 2, 1)), torch.zeros(4, 2))


def test_reads_heads_of_any_strides():
    norm, h = HeadwiseNorm(2, 4), torch.randn(3, 2, 5, 4)
    assert torch.equal(norm(h.transpose(1, 2)), norm(h.transpose(1, 2).contiguous()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureNorm(0), "width to normalise is 0"),
        (lambda: FeatureNorm(4, kind="batch"), "kind is 'batch'; expected 'layer' or 'rms'"),
        (lambda: FeatureNorm(4, eps=0.0), "eps is 0.0; expected a number above 0"),
        (lambda: HeadwiseNorm(0, 4), "num_heads is 0"),
        (lambda: HeadwiseNorm(2, 0), "width to normalise is 0"),
    ],
)
def test_says_what_is_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
