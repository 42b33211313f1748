"""Validation ranks the whole catalogue, as evaluation does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tasks.training.validation import FullRankingValidator


class Fixed(nn.Module):
    """Gives everybody the same scores."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([-torch.inf, *scores]))
        self.widths = []

    def last_scores(self, item_ids, lengths, times=None):
        self.widths.append(item_ids.shape[1])
        return self.scores.expand(len(item_ids), -1)


def test_metrics_by_hand(data):
    """Items score by their number: item i has rank num_items + 1 - i."""
    model = Fixed([float(i) for i in range(data.num_items)])
    metrics = FullRankingValidator(data, data.val, max_seq_len=3, batch_size=7)(model)
    ranks = [data.num_items + 1 - target for target in data.val.targets.tolist()]
    expected = sum(1 / math.log2(1 + rank) for rank in ranks if rank <= 10) / len(ranks)
    assert metrics["ndcg_at_10"] == pytest.approx(expected)
    assert metrics["hit_rate_at_1"] == sum(rank == 1 for rank in ranks) / len(ranks)
    assert set(model.widths) == {3}


def test_ties_rank_worst(data):
    metrics = FullRankingValidator(data, data.val, max_seq_len=3)(Fixed([0.0] * data.num_items))
    assert metrics["hit_rate_at_10"] == 0.0
