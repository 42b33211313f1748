from __future__ import annotations

import pytest
import torch

from tasks.evaluation.ranking import rank_targets
from tasks.evaluation.sampled import (
    draw_uniform_negatives,
    rank_among_sampled_negatives,
    sampled_metric_name,
)


def test_rank_among_all_other_items_is_the_full_rank() -> None:
    scores, target = torch.rand(1, 20), torch.tensor([7])
    others = torch.tensor([[item for item in range(1, 20) if item != 7]])
    sampled = rank_among_sampled_negatives(scores, target, others)
    assert torch.equal(sampled, rank_targets(scores, target))


def test_ties_are_worst_and_cold_targets_miss() -> None:
    scores = torch.tensor([[0.0, 0.5, 0.5, 0.1]] * 2)
    negatives = torch.tensor([[2, 3]] * 2)
    assert rank_among_sampled_negatives(scores, torch.tensor([1, -1]), negatives).tolist() == [2, 4]


def test_draws_are_uniform_seeded_and_never_the_target() -> None:
    targets = torch.tensor([1, 3, 5, -1])
    drawn = draw_uniform_negatives(targets, 5, 4000, seed=3)
    assert torch.equal(drawn, draw_uniform_negatives(targets, 5, 4000, seed=3))
    assert not torch.equal(drawn, draw_uniform_negatives(targets, 5, 4000, seed=4))
    assert not (drawn == targets[:, None]).any()
    for row, target in zip(drawn[:3], targets[:3].tolist(), strict=True):
        counts = torch.bincount(row, minlength=6)
        others = [counts[item].item() for item in range(1, 6) if item != target]
        assert counts[0] == 0
        assert min(others) > 850  # expected 1,000 each, deviation 27


def test_name_says_that_and_how_it_was_sampled() -> None:
    assert sampled_metric_name("hit_rate_at_10", 99) == "hit_rate_at_10_among_99_sampled"


def test_padding_among_negatives_raises() -> None:
    with pytest.raises(ValueError, match="outside"):
        rank_among_sampled_negatives(torch.rand(1, 4), torch.tensor([1]), torch.tensor([[0]]))


def test_nothing_to_draw_from_raises() -> None:
    with pytest.raises(ValueError, match="num_items is 1"):
        draw_uniform_negatives(torch.tensor([1]), 1, 5, seed=0)
