"""Sparse tables over pairs of items: how often one follows another, and how surprisingly often.

All tables are CSR matrices of shape (V, V): row = earlier item, column = later item, with sorted
indices and float32 values. Row and column 0 (padding) are empty.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def count_pairs(
    items: np.ndarray, offsets: np.ndarray, num_items: int, *, window: int
) -> sparse.csr_matrix:
    """Count how often item j comes at most `window` events after item i in one sequence.

    Args:
        items: int (N,), events of all sequences end to end.
        offsets: int64 (U + 1,), sequence u is items[offsets[u]:offsets[u + 1]].
        num_items: size of the vocabulary.
        window: largest distance, in events, at least 1; 1 counts direct transitions.

    Returns:
        CSR (V, V) float32.

    Raises:
        ValueError: window is below 1.

    Example:
        >>> table = count_pairs(np.array([1, 2, 1, 2]), np.array([0, 4]), 2, window=1)
        >>> table.toarray()[1:, 1:].tolist()
        [[0.0, 2.0], [1.0, 0.0]]
    """
    if window < 1:
        raise ValueError(f"window is {window}; expected at least 1 event.")
    width = num_items + 1
    sequence_ids = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = sparse.csr_matrix((width, width), dtype=np.float32)
    for lag in range(1, min(window, len(items) - 1) + 1):
        together = sequence_ids[lag:] == sequence_ids[:-lag]
        earlier, later = items[:-lag][together], items[lag:][together]
        ones = np.ones(len(earlier), np.float32)
        total = total + sparse.csr_matrix((ones, (earlier, later)), shape=(width, width))
    total.sort_indices()
    return total


def lift(
    counts: sparse.csr_matrix, popularity: np.ndarray, *, shrinkage: float
) -> sparse.csr_matrix:
    """Return log(1 + P(j | i) / P(j)) with P(j | i) = n_ij / (n_i + shrinkage).

    The shifted logarithm of the lift keeps zero counts at exactly zero, so the table stays as
    sparse as the counts. `shrinkage` holds down items seen too rarely to be believed.

    Args:
        counts: CSR (V, V), n_ij; n_i is the sum of row i.
        popularity: float64 (V,), P(j), positive for real items.
        shrinkage: pseudo-events added to n_i, at least 0.

    Returns:
        CSR (V, V) float32, non-negative.
    """
    row_sums = np.asarray(counts.sum(axis=1)).ravel()
    row_scale = np.repeat(1.0 / (row_sums + shrinkage + 1e-30), np.diff(counts.indptr))
    ratio = counts.data * row_scale / popularity[counts.indices]
    values = np.log1p(ratio).astype(np.float32)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def smoothed_popularity(items: np.ndarray, num_items: int) -> np.ndarray:
    """Return P(j) with one pseudo-event per item, so that unseen items stay possible.

    Returns:
        float64 (V,), sums to 1; entry 0 (padding) is 0.

    Example:
        >>> smoothed_popularity(np.array([1, 1]), 2).tolist()
        [0.0, 0.75, 0.25]
    """
    counts = np.bincount(items, minlength=num_items + 1) + 1.0
    counts[0] = 0.0
    return counts / counts.sum()


def last_items(item_ids: np.ndarray, lengths: np.ndarray, lag: int) -> np.ndarray:
    """Return the item `lag` events before the next one (1 = the last), 0 where there is none.

    Args:
        item_ids: int64 (B, S), right-padded.
        lengths: int64 (B,).
        lag: at least 1.

    Returns:
        int64 (B,).

    Example:
        >>> last_items(np.array([[5, 7, 0], [3, 0, 0]]), np.array([2, 1]), 2).tolist()
        [5, 0]
    """
    at = lengths - lag
    if item_ids.shape[1] == 0:
        return np.zeros(len(lengths), np.int64)
    return np.where(at >= 0, item_ids[np.arange(len(at)), np.maximum(at, 0)], 0)
