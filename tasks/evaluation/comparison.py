"""Models side by side: means with intervals, spread over seeds, and which differences are real.

A difference is called significant when both hold:

- the paired sign-flip test on per-user values (averaged over seeds) gives p below the level after
  Holm's correction over all pairs of models within one table and metric;
- the 95 % interval of the difference, which resamples users and, where several were run, seeds,
  excludes zero.

With one seed per model nothing is known about the spread between trainings; rows say how many
seeds they rest on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from tasks.evaluation.metrics import CUTOFFS, per_user_metrics
from tasks.evaluation.resampling import (
    bootstrap_means,
    holm,
    percentile_interval,
    sign_flip_p_values,
)

TESTED_METRICS = ("ndcg_at_10", "hit_rate_at_10")
"""Metrics whose differences are tested."""


@dataclass(frozen=True)
class Estimate:
    """One metric of one model.

    Attributes:
        mean: over users and seeds.
        low, high: ends of the 95 % bootstrap interval.
        seed_deviation: standard deviation of the per-seed means (n - 1); None with one seed.
    """

    mean: float
    low: float
    high: float
    seed_deviation: float | None


@dataclass(frozen=True)
class ModelRow:
    """All metrics of one model in one table."""

    model: str
    num_seeds: int
    num_users: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class PairRow:
    """One tested difference, written so that it is not negative.

    Attributes:
        metric: name of the metric.
        better, worse: names of the models; in order of the table where both means are equal.
        difference: mean of better minus mean of worse.
        low, high: ends of the 95 % interval of the difference.
        p_value: of the paired sign-flip test.
        p_holm: after Holm's correction over all pairs of this table and metric.
        is_significant: p_holm below the level and the interval without zero.
    """

    metric: str
    better: str
    worse: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    is_significant: bool


@dataclass(frozen=True)
class ComparisonTable:
    """Models on one split under one ranking rule, best NDCG@10 first."""

    rows: tuple[ModelRow, ...]
    pairs: tuple[PairRow, ...]

    def as_dict(self) -> dict:
        """Return the table as plain values for JSON."""
        return asdict(self)


def compare(
    ranks: dict[str, np.ndarray],
    *,
    cutoffs: tuple[int, ...] = CUTOFFS,
    num_samples: int = 2000,
    significance: float = 0.05,
    seed: int = 0,
) -> ComparisonTable:
    """Compare models on the same users.

    Args:
        ranks: model -> int64 (S, E), 1-based, one row per seed; users in the same order for all.
        cutoffs: values of K; must hold 10.
        num_samples: bootstrap resamples.
        significance: level of the tests after Holm's correction.
        seed: seed of all resampling.

    Raises:
        ValueError: no users, or models ranked on different users.
    """
    values = {
        (model, name): value.reshape(of_model.shape)
        for model, of_model in ranks.items()
        for name, value in per_user_metrics(of_model.ravel(), cutoffs).items()
    }
    resampled = bootstrap_means(
        {f"{model}/{name}": value for (model, name), value in values.items()},
        num_samples=num_samples,
        seed=seed,
    )
    rows = [
        ModelRow(
            model=model,
            num_seeds=len(of_model),
            num_users=of_model.shape[1],
            metrics={
                name: _estimate(value, resampled[f"{model}/{name}"])
                for (owner, name), value in values.items()
                if owner == model
            },
        )
        for model, of_model in ranks.items()
    ]
    rows.sort(key=lambda row: -row.metrics["ndcg_at_10"].mean)
    ordered = [row.model for row in rows]
    pairs = [
        pair
        for metric in TESTED_METRICS
        for pair in _test_pairs(
            metric,
            {model: values[model, metric] for model in ordered},
            {model: resampled[f"{model}/{metric}"] for model in ordered},
            significance=significance,
            seed=seed,
        )
    ]
    return ComparisonTable(tuple(rows), tuple(pairs))


def _estimate(value: np.ndarray, resampled: np.ndarray) -> Estimate:
    """Summarise one metric (S, E) of one model."""
    mean, low, high = percentile_interval(float(value.mean()), resampled)
    by_seed = value.mean(axis=1)
    deviation = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    return Estimate(mean, low, high, deviation)


def _test_pairs(
    metric: str,
    values: dict[str, np.ndarray],
    resampled: dict[str, np.ndarray],
    *,
    significance: float,
    seed: int,
) -> list[PairRow]:
    """Test every pair of models on one metric: one Holm family."""
    by_user = {model: value.mean(axis=0) for model, value in values.items()}
    pairs = [
        (a, b) if by_user[a].mean() >= by_user[b].mean() else (b, a)
        for a, b in combinations(values, 2)
    ]
    p_values = sign_flip_p_values(by_user, pairs, seed=seed)
    rows = []
    for (better, worse), p, p_holm in zip(pairs, p_values, holm(p_values), strict=True):
        difference, low, high = percentile_interval(
            float(by_user[better].mean() - by_user[worse].mean()),
            resampled[better] - resampled[worse],
        )
        is_significant = bool(p_holm < significance and (low > 0.0 or high < 0.0))
        rows.append(
            PairRow(
                metric,
                better,
                worse,
                difference,
                low,
                high,
                float(p),
                float(p_holm),
                is_significant,
            )
        )
    return rows
