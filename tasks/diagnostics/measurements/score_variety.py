"""Do scores differ between users and between positions, and in more than one way?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class ScoreVariety:
    """Shares of the scores' variance, and how many directions they span."""

    over_users: float = quantity("share of the scores' variance that lies between users")
    over_time: float = quantity("share of the scores' variance that lies between positions")
    effective_rank: float = quantity("directions the scores span")
    num_positions: int = quantity("positions")


def measure(probe: Probe) -> ScoreVariety:
    """Take scores of several users over several positions; weights trained where there are any.

    The variance that lies between users: of the scores of one position and item over users. Over
    time: of one user and item over positions. Effective rank: exp of the entropy of the squared
    singular values of the centred scores (Roy and Vetterli 2007).
    """
    trained = probe.subject.trained is not None
    batch = probe.batch(rows=16, positions=8)
    full = batch.rows(batch.mask.all(dim=1).nonzero().flatten())
    if len(full.item_ids) < 2 or full.item_ids.shape[1] < 2:
        full = batch.columns(slice(0, int(batch.lengths.min())))
    rows, positions = full.item_ids.shape
    if rows < 2 or positions < 2:
        raise NotMeasuredError("two training windows of two events")
    scores = probe.replay(full, trained=trained, shake=False)
    total = float(scores.var(correction=0))
    matrix = (scores - scores.mean(dim=(0, 1))).flatten(0, 1)
    return ScoreVariety(
        over_users=_share(float(scores.var(dim=0, correction=0).mean()), total),
        over_time=_share(float(scores.var(dim=1, correction=0).mean()), total),
        effective_rank=_effective_rank(matrix),
        num_positions=rows * positions,
    )


def _share(part: float, total: float) -> float:
    return part / total if total > 0 else 0.0


def _effective_rank(matrix: torch.Tensor) -> float:
    energy = torch.linalg.svdvals(matrix).square()
    if float(energy.sum()) <= 0:
        return 0.0
    p = energy / energy.sum()
    p = p[p > 0]
    return float(torch.exp(-(p * p.log()).sum()))
