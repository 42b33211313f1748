"""Sparse features of (history, candidate) pairs for the logistic regression.

Every feature but the first is zero for almost all candidates. With h_1 the last item of the
history, h_2 the one before, and so on, and L_next, L_near, L_around the lift tables of direct
transitions, of pairs up to `WINDOW` events apart in order, and of such pairs in either order:

    log_popularity   log P(j)
    next_1           L_next[h_1, j]
    near_1 .. near_3 L_near[h_l, j] at lag l
    near_older       sum over lags 4 .. SIMILAR_LAGS of 0.8^(l - 4) L_near[h_l, j]
    around           mean over lags 1 .. SIMILAR_LAGS of L_around[h_l, j]
    seen             1 if j is in the history
    seen_recency     1 / (lag of j's last occurrence), 0 if never
    seen_last        1 if j = h_1

With the weights (1, 1, 0, ...) the score is log(P(j) + n_ij / (n_i + s)): first-order transitions
with back-off are inside the family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from tasks.baselines.item_pairs import count_pairs, last_items, lift, smoothed_popularity

WINDOW = 10
SHRINKAGE = 20.0
"""Pseudo-events per item in the lift of direct transitions; times the pairs per event elsewhere."""
SEPARATE_LAGS = 3
SIMILAR_LAGS = 20
DECAY = 0.8

FEATURES = (
    "log_popularity",
    "next_1",
    *(f"near_{lag}" for lag in range(1, SEPARATE_LAGS + 1)),
    "near_older",
    "around",
    "seen",
    "seen_recency",
    "seen_last",
)


@dataclass(frozen=True)
class FeatureTables:
    """What the features are read from, counted on training sequences.

    Attributes:
        log_popularity: float32 (V,); entry 0 is -inf.
        stacked: CSR (3 V, V) float32: L_next, L_near and L_around on top of each other, so that
            one sparse product covers them all.
    """

    log_popularity: np.ndarray
    stacked: sparse.csr_matrix

    @classmethod
    def count(cls, items: np.ndarray, offsets: np.ndarray, num_items: int) -> Self:
        """Count the tables on the given sequences."""
        popularity = smoothed_popularity(items, num_items)
        near = count_pairs(items, offsets, num_items, window=WINDOW)
        around = (near + near.T).tocsr()
        around.sort_indices()
        tables = (
            lift(count_pairs(items, offsets, num_items, window=1), popularity, shrinkage=SHRINKAGE),
            lift(near, popularity, shrinkage=SHRINKAGE * WINDOW),
            lift(around, popularity, shrinkage=SHRINKAGE * WINDOW * 2),
        )
        with np.errstate(divide="ignore"):
            log_popularity = np.log(popularity).astype(np.float32)
        return cls(log_popularity, sparse.vstack(tables, format="csr"))

    @property
    def width(self) -> int:
        """V: real items and padding."""
        return len(self.log_popularity)


def weighted_rows(
    item_ids: np.ndarray, lengths: np.ndarray, weights: dict[str, float], width: int
) -> sparse.csr_matrix:
    """Return the sparse matrix (B, 3 V) whose product with the stacked tables sums all lifts.

    Args:
        item_ids: int64 (B, S), right-padded with 0.
        lengths: int64 (B,).
        weights: weight of every feature.
        width: V.
    """
    rows, columns, values = [], [], []
    mean_scale = weights["around"] / np.clip(lengths, 1, SIMILAR_LAGS)
    for lag in range(1, min(SIMILAR_LAGS, item_ids.shape[1]) + 1):
        items = last_items(item_ids, lengths, lag)
        at = np.flatnonzero(items)
        near = (
            weights[f"near_{lag}"]
            if lag <= SEPARATE_LAGS
            else weights["near_older"] * DECAY ** (lag - SEPARATE_LAGS - 1)
        )
        parts = [(width, np.full(len(at), near)), (2 * width, mean_scale[at])]
        if lag == 1:
            parts.append((0, np.full(len(at), weights["next_1"])))
        for start, value in parts:
            rows.append(at)
            columns.append(start + items[at])
            values.append(value)
    shape = (len(lengths), 3 * width)
    if not rows:
        return sparse.csr_matrix(shape, dtype=np.float32)
    triple = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values).astype(np.float32), triple), shape=shape)


def candidate_features(
    item_ids: np.ndarray, lengths: np.ndarray, candidates: np.ndarray, tables: FeatureTables
) -> np.ndarray:
    """Return the features of a few candidates per history.

    Args:
        item_ids: int64 (B, S), right-padded with 0.
        lengths: int64 (B,).
        candidates: int64 (B, M), real items.
        tables: counted on sequences that do not contain these histories.

    Returns:
        float64 (B, M, len(FEATURES)), in the order of `FEATURES`.
    """
    width = tables.width
    found = {name: np.zeros(candidates.shape) for name in FEATURES}
    found["log_popularity"] = tables.log_popularity[candidates].astype(np.float64)

    def looked_up(start: int, items: np.ndarray) -> np.ndarray:
        """Return one table's value for (item of each row, each candidate); 0 without an item."""
        at = np.repeat(start + items, candidates.shape[1])
        return np.asarray(tables.stacked[at, candidates.ravel()]).reshape(candidates.shape)

    for lag in range(1, item_ids.shape[1] + 1):
        items = last_items(item_ids, lengths, lag)
        is_same = (candidates == items[:, None]).astype(np.float64)
        found["seen"] = np.maximum(found["seen"], is_same)
        found["seen_recency"] = np.maximum(found["seen_recency"], is_same / lag)
        if lag == 1:
            found["seen_last"] = is_same
            found["next_1"] = looked_up(0, items)
        if lag <= SEPARATE_LAGS:
            found[f"near_{lag}"] = looked_up(width, items)
        elif lag <= SIMILAR_LAGS:
            found["near_older"] += DECAY ** (lag - SEPARATE_LAGS - 1) * looked_up(width, items)
        if lag <= SIMILAR_LAGS:
            found["around"] += looked_up(2 * width, items)
    found["around"] /= np.clip(lengths, 1, SIMILAR_LAGS)[:, None]
    return np.stack([found[name] for name in FEATURES], axis=-1)


def add_seen_bonus(
    scores: np.ndarray, item_ids: np.ndarray, lengths: np.ndarray, weights: dict[str, float]
) -> None:
    """Add the three features of items already in the history to `scores` (B, V), in place."""
    rows, at = np.nonzero(item_ids)  # oldest first: of repeated pairs, the latest is kept below
    lag = lengths[rows] - at
    bonus = weights["seen"] + weights["seen_recency"] / lag + weights["seen_last"] * (lag == 1)
    items = item_ids[rows, at]
    scores[rows, items] = scores[rows, items] + bonus
