"""From ranks to numbers, per user first; means are taken last, where they are reported.

With one relevant item per user, the ideal DCG is 1, so NDCG is the discount at the target's rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Ranks = np.ndarray
"""int64 (E,), 1-based."""

CUTOFFS = (1, 5, 10, 20)
"""The K of every reported metric."""


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1.0 where the target is among the first k, else 0.0; float64 (E,).

    Example:
        >>> hit_rate(np.array([1, 3, 4]), 3).tolist()
        [1.0, 1.0, 0.0]
    """
    return _within(ranks, k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1 / log2(1 + rank) where the target is among the first k, else 0; float64 (E,).

    Järvelin and Kekäläinen (2002), with binary gain and a single relevant item.

    Example:
        >>> ndcg(np.array([1, 3, 4]), 3).tolist()
        [1.0, 0.5, 0.0]
    """
    return np.where(_within(ranks, k), 1.0 / np.log2(1.0 + ranks), 0.0)


def mrr(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1 / rank where the target is among the first k, else 0; float64 (E,).

    Example:
        >>> mrr(np.array([1, 4, 5]), 4).tolist()
        [1.0, 0.25, 0.0]
    """
    return np.where(_within(ranks, k), 1.0 / ranks, 0.0)


METRICS: tuple[Callable[[Ranks, int], np.ndarray], ...] = (hit_rate, ndcg, mrr)
"""Every accuracy metric: (ranks (E,), k) -> per-user values in [0, 1], higher is better."""


def metric_name(metric: Callable[[Ranks, int], np.ndarray], k: int) -> str:
    """Return the name a metric is stored under.

    Example:
        >>> metric_name(ndcg, 10)
        'ndcg_at_10'
    """
    return f"{metric.__name__}_at_{k}"


def per_user_metrics(ranks: Ranks, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """Return every metric at every cut-off: name -> float64 (E,), in user order.

    Example:
        >>> values = per_user_metrics(np.array([1, 3]), cutoffs=(2,))
        >>> {name: value.tolist() for name, value in values.items()}
        {'hit_rate_at_2': [1.0, 0.0], 'ndcg_at_2': [1.0, 0.0], 'mrr_at_2': [1.0, 0.0]}
    """
    return {metric_name(metric, k): metric(ranks, k) for metric in METRICS for k in cutoffs}


def mean_metrics(ranks: Ranks, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Return the mean over users of every metric at every cut-off.

    Raises:
        ValueError: no users; a mean of nothing is not 0.

    Example:
        >>> mean_metrics(np.array([1, 3]), cutoffs=(2,))["hit_rate_at_2"]
        0.5
    """
    if len(ranks) == 0:
        raise ValueError("ranks are empty; expected one per evaluated user. Check the split.")
    return {name: float(v.mean()) for name, v in per_user_metrics(ranks, cutoffs).items()}


def _within(ranks: Ranks, k: int) -> np.ndarray:
    """Return bool (E,): rank at most k; refuses ranks and cut-offs below 1."""
    if k < 1:
        raise ValueError(f"cut-off K is {k}; expected at least 1.")
    ranks = np.asarray(ranks)
    if ranks.size and ranks.min() < 1:
        raise ValueError(f"rank {ranks.min()} found; ranks are 1-based, the best is 1.")
    return ranks <= k
