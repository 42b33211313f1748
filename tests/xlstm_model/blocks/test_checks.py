"""What blocks check before computing anything."""

from __future__ import annotations

import math

import pytest
import torch

from xlstm_model.blocks.checks import (
    check_above_zero,
    check_at_least,
    check_divides,
    check_dropout,
    zero_padding,
)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_minimum_refuses_small_and_endless_values(value):
    with pytest.raises(ValueError, match=f"width is {value}; expected at least 1"):
        check_at_least(1, width=value)
    check_at_least(1, width=1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_above_zero_refuses_zero_and_endless_values(value):
    with pytest.raises(ValueError, match=f"rate is {value}; expected a number above 0"):
        check_above_zero(rate=value)
    check_above_zero(rate=1e-9)


def test_divisors_that_would_do_are_listed():
    with pytest.raises(
        ValueError, match=r"heads is 5; .* width = 12\. Choose from 1, 2, 3, 4, 6, 12"
    ):
        check_divides("heads", 5, "width", 12)
    with pytest.raises(ValueError, match="heads is 0"):
        check_divides("heads", 0, "width", 12)
    check_divides("heads", 4, "width", 12)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_is_a_share(dropout):
    with pytest.raises(ValueError, match="expected 0 <= dropout < 1"):
        check_dropout(dropout)


def test_padding_is_zeroed_with_finite_gradients():
    x = torch.tensor([[[math.nan], [2.0]]], requires_grad=True)
    y = zero_padding(x, torch.tensor([[False, True]]))
    y.square().sum().backward()
    assert y.tolist() == [[[0.0], [2.0]]]
    assert x.grad.tolist() == [[[0.0], [4.0]]]
    assert zero_padding(x, None) is x
