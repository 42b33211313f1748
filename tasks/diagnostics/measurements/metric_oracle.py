"""The program's ranks and metrics beside independent ones, on scores whose answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity

NUM_ROWS = 256
NUM_ITEMS = 50
"""Size of the made-up catalogue; larger than any usual cut-off, small enough to rank at once."""


@dataclass(frozen=True)
class MetricOracle:
    """Disagreements between the program's evaluator and an independent one."""

    wrong_ranks: float = quantity("share of random rows with another rank")
    wrong_when_perfect: float = quantity("share of perfect rows not ranked first")
    constant_hit_rate: float = quantity("hit rate at 10 of a constant score")
    chance_hit_rate: float = quantity("largest hit rate at 10 chance explains")
    moved_by_padding: float = quantity("share of rows whose rank a high padding score changes")
    metric_error: float = quantity("largest difference of a metric value")
    num_metrics: int = quantity("metrics compared")
    worst_metric: str = ""


def measure(probe: Probe) -> MetricOracle:
    """Rank random, perfect, constant and padding-heavy scores; recompute every metric."""
    generator = torch.Generator().manual_seed(probe.seed)
    scores = torch.randn(NUM_ROWS, NUM_ITEMS + 1, generator=generator)
    scores[:, 0] = -torch.inf
    targets = torch.randint(1, NUM_ITEMS + 1, (NUM_ROWS,), generator=generator)
    ranks = program_ranks(probe, scores, targets)
    perfect = scores.clone()
    perfect[torch.arange(NUM_ROWS), targets] = 100.0
    constant = torch.zeros_like(scores)
    constant[:, 0] = -torch.inf
    padding = scores.clone()
    padding[:, 0] = 99.0
    error, worst, number = _metric_error(probe, expected_ranks(scores, targets))
    chance = 10 / NUM_ITEMS
    return MetricOracle(
        wrong_ranks=float((ranks != expected_ranks(scores, targets)).mean()),
        wrong_when_perfect=float((program_ranks(probe, perfect, targets) != 1).mean()),
        constant_hit_rate=float((program_ranks(probe, constant, targets) <= 10).mean()),
        chance_hit_rate=chance + 5 * math.sqrt(chance * (1 - chance) / NUM_ROWS),
        moved_by_padding=float((program_ranks(probe, padding, targets) != ranks).mean()),
        metric_error=error,
        num_metrics=number,
        worst_metric=worst,
    )


def expected_ranks(scores: Tensor, targets: Tensor) -> np.ndarray:
    """Return ranks by sorting each row's real items by hand: 1 + items strictly better.

    Rows are free of ties, so every tie policy gives this rank.
    """
    real = scores[:, 1:].double().numpy()
    return np.array(
        [
            1 + int(np.flatnonzero(np.argsort(-row, kind="stable") == target - 1)[0])
            for row, target in zip(real, targets.tolist(), strict=True)
        ]
    )


def program_ranks(probe: Probe, scores: Tensor, targets: Tensor) -> np.ndarray:
    """Return the program's ranks, checked to be one number per row."""
    ranks = np.asarray(probe.ask("rank", scores.clone(), targets.clone()))
    if ranks.shape != (len(targets),):
        raise SubjectError("rank", f"returned shape {ranks.shape}; expected ({len(targets)},)")
    return ranks


def expected_metrics(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return hit rate, NDCG and MRR per row, written out for one relevant item.

    >>> expected_metrics(np.array([2]), (5,))["mrr_at_5"].tolist()
    [0.5]
    """
    values = {}
    for k in cutoffs:
        hits = [(int(rank), int(rank) <= k) for rank in ranks]
        values[f"hit_rate_at_{k}"] = np.array([1.0 if hit else 0.0 for _, hit in hits])
        values[f"ndcg_at_{k}"] = np.array([1 / math.log2(r + 1) if hit else 0.0 for r, hit in hits])
        values[f"mrr_at_{k}"] = np.array([1 / r if hit else 0.0 for r, hit in hits])
    return values


def _metric_error(probe: Probe, ranks: np.ndarray) -> tuple[float, str, int]:
    cutoffs = tuple(k for k in probe.subject.declared.cutoffs if k <= NUM_ITEMS)
    found = probe.ask("metrics", ranks.copy(), cutoffs)
    expected = expected_metrics(ranks, cutoffs)
    shared = sorted(set(found) & set(expected))
    if not shared:
        raise NotMeasuredError(
            f"metrics named like {', '.join(sorted(expected)[:2])}; the program names {list(found)}"
        )
    errors = {}
    for name in shared:
        values = np.asarray(found[name], dtype=float)
        if values.shape != expected[name].shape:
            wanted = expected[name].shape
            raise SubjectError("metrics", f"{name} has shape {values.shape}; expected {wanted}")
        difference = np.abs(values - expected[name])
        errors[name] = float(difference.max()) if difference.size else 0.0
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    return errors[worst], worst if errors[worst] > 0 else "", len(shared)
