"""Faults of ranking, metrics and what is handed to them."""

from __future__ import annotations

from torch import Tensor

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault


def _count_only_better(scores: Tensor, targets: Tensor) -> Tensor:
    own = scores.gather(1, targets.clamp(min=0)[:, None])
    return 1 + (scores[:, 1:] > own).sum(dim=1)


def _ties_optimistic(subject: Subject) -> Subject:
    return subject.replace(rank=_count_only_better)


FAULTS = (
    Fault(
        id="ties_optimistic",
        title="items with the target's own score are ranked behind it",
        layer="evaluation",
        severity=1.0,
        source="Berrendorf et al. 2020, rank ambiguity",
        expected=frozenset({"ranking_metrics_right"}),
        stages=frozenset({"metric"}),
        apply=_ties_optimistic,
    ),
)
