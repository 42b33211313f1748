"""Small statistical tests with analytic tails, on plain arrays."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

FEWEST = 30
"""Users below which a mean of bounded differences is not yet normal enough for a tail of 1e-4."""


def chance_of_mean_below(differences: np.ndarray) -> float:
    """Return the p-value of a mean as low as this one, if the true mean were 0 or more.

    One-sided t-test on paired differences. Differences that are all equal leave no doubt.

    >>> chance_of_mean_below(np.full(50, -1.0)), chance_of_mean_below(np.zeros(50))
    (0.0, 1.0)
    >>> round(chance_of_mean_below(np.tile([-1.0, 0.0], 50)), 12)
    0.0
    """
    mean, count = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    if error == 0.0:
        return 0.0 if mean < 0 else 1.0
    return float(stats.t.cdf(mean / error, count - 1)) if math.isfinite(error) else 1.0


def chance_of_no_gain(better: np.ndarray, worse: np.ndarray) -> float:
    """Return the p-value of a gain this large between paired values, if there were none.

    >>> chance_of_no_gain(np.ones(40), np.zeros(40))
    0.0
    """
    return chance_of_mean_below(np.asarray(worse, float) - np.asarray(better, float))


def theil_sen(values: np.ndarray) -> float:
    """Return the median slope over all pairs of points (Theil 1950, Sen 1968), per index.

    >>> theil_sen(np.array([3.0, 2.0, 1.0, 100.0]))
    -1.0
    """
    values = np.asarray(values, float)
    first, second = np.triu_indices(len(values), 1)
    if len(first) == 0:
        return 0.0
    slopes = (values[second] - values[first]) / (second - first)
    return float(np.quantile(slopes, 0.5, method="lower"))


def mann_kendall(values: np.ndarray) -> tuple[float, float]:
    """Return Kendall's tau with time, and the p-value of one as high if there were no trend.

    Mann 1945, Kendall 1975; exact for short series without ties.

    >>> tau, p_value = mann_kendall(np.arange(8.0))
    >>> round(tau, 9), p_value < 1e-4
    (1.0, True)
    >>> mann_kendall(np.array([1.0, 1.0, 1.0]))
    (0.0, 1.0)
    """
    values = np.asarray(values, float)
    if len(values) < 3 or len(np.unique(values)) < 2:
        return 0.0, 1.0
    found = stats.kendalltau(np.arange(len(values)), values, alternative="greater")
    return float(found.statistic), float(found.pvalue)


def group_by_mass(expected: np.ndarray, groups: int) -> np.ndarray:
    """Return the group (0 .. groups - 1) of each category so that groups hold about equal mass.

    Categories are ordered by mass, the largest first; one category is never split.

    >>> group_by_mass(np.array([1.0, 1.0, 2.0]), 2).tolist()
    [1, 1, 0]
    """
    order = np.argsort(-expected, kind="stable")
    before = np.cumsum(expected[order]) - expected[order]
    total = float(expected.sum())
    placed = np.empty(len(expected), dtype=np.int64)
    placed[order] = np.minimum((before / total * groups).astype(np.int64), groups - 1)
    return np.unique(placed, return_inverse=True)[1]


def compare_counts(observed: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return total variation from the expected distribution, and the chi-square p-value.

    Args:
        observed: (G,) counts.
        probabilities: (G,), sum 1.

    >>> distance, p_value = compare_counts(np.array([50, 50]), np.array([0.5, 0.5]))
    >>> distance, p_value
    (0.0, 1.0)
    """
    total = float(observed.sum())
    distance = 0.5 * float(np.abs(observed / total - probabilities).sum())
    expected = total * probabilities
    if (observed[expected == 0] > 0).any():
        return distance, 0.0
    kept = expected > 0
    if kept.sum() < 2:
        return distance, 1.0
    statistic = float(((observed[kept] - expected[kept]) ** 2 / expected[kept]).sum())
    return distance, float(stats.chi2.sf(statistic, int(kept.sum()) - 1))


def compare_samples(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return total variation between two histograms, and the chi-square p-value of homogeneity.

    >>> compare_samples(np.array([10, 10]), np.array([20, 20]))
    (0.0, 1.0)
    """
    kept = (first + second) > 0
    table = np.stack([first[kept], second[kept]]).astype(float)
    shares = table / table.sum(axis=1, keepdims=True)
    distance = 0.5 * float(np.abs(shares[0] - shares[1]).sum())
    if table.shape[1] < 2:
        return distance, 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return distance, float(stats.chi2.sf(statistic, table.shape[1] - 1))
