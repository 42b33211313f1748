"""Intervals and paired tests by resampling users, vectorised and seeded.

Memory is bounded: resamples are drawn in blocks of at most `BLOCK_CELLS` numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK_CELLS = 2**22
"""Numbers drawn at a time: 32 MiB in float64."""

NUM_SIGN_FLIPS = 10_000
"""Random sign assignments of a paired test; the smallest possible p-value is 1 / 10,001."""


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


def bootstrap_means(
    values: dict[str, np.ndarray], *, num_samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return resampled means of several quantities measured on the same users.

    Each resample draws E users with replacement, the same ones for every quantity, so differences
    between quantities are paired. A quantity with S > 1 seeds also draws S of its seeds with
    replacement, independently of other quantities: the interval then covers another set of users
    and another training. With few seeds the drawn spread underestimates the true one, by a factor
    (S - 1) / S in variance.

    Args:
        values: name -> float64 (S, E), one row per seed; E is the same for all, S need not be.
        num_samples: resamples R.
        seed: seed of all draws; a quantity's result does not depend on which others are present.

    Returns:
        name -> float64 (R,).
    """
    num_users = _common_num_users(values)
    stacked = np.concatenate(list(values.values())).T  # (E, sum of S)
    by_user = np.concatenate(
        [counts @ stacked for counts in _user_counts(num_users, num_samples, seed)]
    )
    by_user /= num_users
    means, start = {}, 0
    for name, value in values.items():
        num_seeds = len(value)
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn = generator.integers(0, num_seeds, (num_samples, num_seeds))
        columns = np.take_along_axis(by_user[:, start : start + num_seeds], drawn, axis=1)
        means[name] = columns.mean(axis=1)
        start += num_seeds
    return means


def percentile_interval(mean: float, resampled: np.ndarray, level: float = 0.95) -> Interval:
    """Return the percentile interval (Efron and Tibshirani 1993, chapter 13).

    Example:
        >>> percentile_interval(2.0, np.arange(5.0), level=0.5)
        Interval(mean=2.0, low=1.0, high=3.0)
    """
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(float(mean), float(low), float(high))


def sign_flip_p_values(
    values: dict[str, np.ndarray],
    pairs: list[tuple[str, str]],
    *,
    seed: int,
    num_flips: int = NUM_SIGN_FLIPS,
) -> np.ndarray:
    """Test, for each pair of models, whether their mean difference over users is zero.

    Two-sided paired permutation test: if two models are exchangeable, each user's difference is as
    likely to have the other sign. p = (1 + number of random sign assignments with a mean at least
    as far from zero) / (1 + num_flips), which is never below 1 / (1 + num_flips) and never too
    small (Phipson and Smyth 2010).

    Args:
        values: name -> float64 (E,), per-user values averaged over seeds.
        pairs: names to compare.
        seed: seed of the signs; all pairs see the same ones.
        num_flips: random assignments.

    Returns:
        float64 (len(pairs),).

    Example:
        >>> a, b = np.ones(20), np.zeros(20)
        >>> p = sign_flip_p_values({"a": a, "b": b, "c": b}, [("a", "b"), ("b", "c")], seed=0)
        >>> bool(p[0] < 0.001), float(p[1])
        (True, 1.0)
    """
    if not pairs:
        return np.empty(0)
    names = list(values)
    table = np.stack([values[name] for name in names], axis=1)  # (E, M)
    first = np.array([names.index(a) for a, _ in pairs])
    second = np.array([names.index(b) for _, b in pairs])
    totals = table.sum(axis=0)
    observed = np.abs(totals[first] - totals[second])
    # Sums of the same differences in another order must count as equal, not as a hair smaller.
    threshold = observed - 1e-9 * (1.0 + np.abs(table).sum(axis=0).max())
    at_least = np.zeros(len(pairs), np.int64)
    for is_kept in _coin_flips(len(table), num_flips, seed):
        signed = 2.0 * (is_kept @ table) - totals  # (block, M): sums with random signs
        at_least += (np.abs(signed[:, first] - signed[:, second]) >= threshold).sum(axis=0)
    return (1.0 + at_least) / (1.0 + num_flips)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for a family of tests (Holm 1979), in the given order.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _user_counts(num_users: int, num_samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (r, E) of how often each user is drawn in each of r resamples."""
    generator = np.random.default_rng([seed, 0])
    block = max(1, BLOCK_CELLS // num_users)
    for start in range(0, num_samples, block):
        rows = min(block, num_samples - start)
        draws = generator.integers(0, num_users, (rows, num_users))
        draws += np.arange(rows)[:, None] * num_users
        counts = np.bincount(draws.ravel(), minlength=rows * num_users)
        yield counts.reshape(rows, num_users).astype(np.float64)


def _coin_flips(num_users: int, num_flips: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (r, E) of fair zeros and ones, as float64."""
    generator = np.random.default_rng([seed, 1])
    block = max(1, BLOCK_CELLS // num_users)
    width = (num_users + 7) // 8
    for start in range(0, num_flips, block):
        rows = min(block, num_flips - start)
        packed = np.frombuffer(generator.bytes(rows * width), np.uint8).reshape(rows, width)
        yield np.unpackbits(packed, axis=1, count=num_users).astype(np.float64)


def _common_num_users(values: dict[str, np.ndarray]) -> int:
    """Return E; refuses quantities measured on different users, or on none."""
    sizes = {name: value.shape[-1] for name, value in values.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise ValueError(
            f"users per quantity are {sizes}; expected the same number, at least 1, for all: "
            "paired comparisons need the same users in the same order."
        )
    return next(iter(sizes.values()))
