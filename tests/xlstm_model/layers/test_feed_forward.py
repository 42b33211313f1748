"""GatedFeedForward: its formula, widths and errors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xlstm_model.layers import GatedFeedForward


@pytest.mark.parametrize(("activation", "function"), [("gelu", F.gelu), ("silu", F.silu)])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_its_formula_with_the_gate_first(activation, function, bias):
    layer = GatedFeedForward(6, activation=activation, multiple_of=8, bias=bias).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    up = layer.proj_up(x)
    gate, value = up[..., : layer.inner_features], up[..., layer.inner_features :]
    torch.testing.assert_close(layer(x), layer.proj_down(function(gate) * value))
    assert (layer.proj_up.bias is not None) == bias


@pytest.mark.parametrize(
    ("features", "factor", "multiple", "inner"),
    [
        (64, 1.3, 64, 128),
        (16, 1.3, 64, 64),
        (5, 1.3, 1, 7),
        (64, 2.667, 64, 192),
        (128, 1, 64, 128),
    ],
)
def test_inner_width_is_rounded_up(features, factor, multiple, inner):
    assert GatedFeedForward(features, factor, multiple_of=multiple).inner_features == inner


def test_dropout_acts_in_training_only():
    layer, x = GatedFeedForward(8, dropout=0.5), torch.randn(4, 8)
    assert (layer(x) == 0).any()
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert not (layer(x) == 0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 0}, "features is 0"),
        ({"factor": 0.0}, "factor is 0.0; expected a number above 0"),
        ({"activation": "relu"}, "activation is 'relu'; expected 'gelu' or 'silu'"),
        ({"multiple_of": 0}, "multiple_of is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 <= dropout < 1"),
    ],
)
def test_says_what_is_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        GatedFeedForward(**({"features": 8} | arguments))
