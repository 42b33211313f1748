"""Validation by full ranking: every real item competes, ties rank worst."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.evaluation.evaluate import rank_split
from tasks.evaluation.metrics import mean_metrics

CUTOFFS = (1, 5, 10, 20)
"""The K of the metrics."""


@dataclass(frozen=True)
class FullRankingValidator:
    """Metrics of a recommender on one split, unfiltered, over the full catalogue.

    Attributes:
        data: prepared data.
        split: the examples to rank, normally ``data.val``.
        max_seq_len: events of each history the model reads.
        batch_size: histories scored at once.
    """

    data: PreparedData
    split: EvaluationSplit
    max_seq_len: int
    batch_size: int = 512

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Means over users by name: ``hit_rate_at_10``, ``ndcg_at_10``, ``mrr_at_10``, ..."""
        device = next(model.parameters()).device
        ranked = rank_split(
            model.last_scores,
            self.data,
            self.split,
            max_len=self.max_seq_len,
            batch_size=self.batch_size,
            device=device,
        )
        return mean_metrics(ranked.ranks, CUTOFFS)
