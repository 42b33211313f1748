"""Pooling in one call and in pieces."""

from __future__ import annotations

import pytest
import torch

from xlstm_model.pooling import Pooling


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_pieces_equal_the_whole(kind):
    pool = Pooling(kind, 4).double()
    hidden = torch.randn(3, 7, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0]]) > 0
    whole, _ = pool(hidden, mask)
    _, state = pool(hidden[:, :3], mask[:, :3])
    pieces, _ = pool(hidden[:, 3:], mask[:, 3:], state)
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_gradients_are_right(kind):
    pool = Pooling(kind, 3).double()
    hidden = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False, True], [False, False, False, False]])
    assert torch.autograd.gradcheck(lambda h: pool(h, mask)[0], hidden)
    if kind == "attention":
        loss = pool(hidden, mask)[0].square().sum()
        (gradient,) = torch.autograd.grad(loss, pool.score.weight)
        assert gradient.abs().sum() > 0


def test_attention_weighs_by_softmax_even_with_large_scores():
    pool = Pooling("attention", 2).double()
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[1000.0, 0.0]]))
    hidden = torch.tensor([[[1.0, 5.0], [1.001, 7.0]]], dtype=torch.float64)
    weights = torch.softmax(torch.tensor([1000.0, 1001.0], dtype=torch.float64), 0)
    pooled, _ = pool(hidden, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(pooled[0], weights @ hidden[0])


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_nothing_pools_to_zero(kind):
    pooled, _ = Pooling(kind, 2)(torch.full((1, 3, 2), float("nan")), torch.zeros(1, 3) > 0)
    assert pooled.tolist() == [[0.0, 0.0]]


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling is 'max'"):
        Pooling("max", 2)
