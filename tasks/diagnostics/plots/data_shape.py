"""Lengths of training sequences and popularity of items, ready to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.data.prepared import PreparedData

Row = dict[str, Any]

BINS = 24
CURVE_POINTS = 150


def sequence_lengths(lengths: np.ndarray) -> list[Row]:
    """Count sequences by length, in bins that widen as lengths do.

    Returns:
        Rows with low (included), high (excluded) and users.

    >>> sequence_lengths(np.array([1, 1, 2]))
    [{'low': 1, 'high': 2, 'users': 2}, {'low': 2, 'high': 3, 'users': 1}]
    """
    lengths = lengths[lengths > 0]
    if len(lengths) == 0:
        return []
    longest = int(lengths.max())
    edges = np.unique(np.geomspace(lengths.min(), longest + 1, BINS + 1).round().astype(np.int64))
    edges[-1] = longest + 1
    counts, _ = np.histogram(lengths, edges)
    return [
        {"low": int(low), "high": int(high), "users": int(users)}
        for low, high, users in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def popularity_curve(counts: np.ndarray) -> list[Row]:
    """Training events of items by their place in popularity.

    Args:
        counts: Events per item, padding left out.

    Returns:
        Rows with place (1 is the most popular), events and share (of all events on it and on those
        before it), at places that are dense at the top.
    """
    ordered = np.sort(counts)[::-1]
    if ordered.sum() == 0:
        return []
    places = np.unique(np.geomspace(1, len(ordered), CURVE_POINTS).round().astype(np.int64))
    shares = np.cumsum(ordered) / ordered.sum()
    return [
        {"place": int(p), "events": int(ordered[p - 1]), "share": float(shares[p - 1])}
        for p in places
    ]


def describe(data: PreparedData, max_seq_len: int) -> dict[str, Any]:
    """Return both with the number of events a model reads at most."""
    return {
        "lengths": sequence_lengths(np.asarray(data.train.lengths)),
        "popularity": popularity_curve(data.item_counts[1:]),
        "max_seq_len": max_seq_len,
    }
