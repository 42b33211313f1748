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


def popularity_curve(counts: np.ndarray, targets: np.ndarray) -> list[Row]:
    """Training events of items by their place in popularity, and how many targets that reaches.

    Args:
        counts: Events per item, padding left out.
        targets: Item ids (from 1) of the test targets; others are in nobody's training.

    Returns:
        Rows with place (1 is the most popular), events, share (of all events on it and on those
        before it) and targets (share of all test targets on them), at places that are dense at
        the top.
    """
    # The same order among equals as in the question `distributions_reasonable`.
    order = np.argsort(-counts, kind="stable")
    ordered = counts[order]
    if ordered.sum() == 0:
        return []
    places = np.unique(np.geomspace(1, len(ordered), CURVE_POINTS).round().astype(np.int64))
    shares = np.cumsum(ordered) / ordered.sum()
    warm = targets[(targets >= 1) & (targets <= len(counts))]
    hits = np.bincount(warm - 1, minlength=len(counts))[order]
    reached = np.cumsum(hits) / max(len(targets), 1)
    return [
        {
            "place": int(p),
            "events": int(ordered[p - 1]),
            "share": float(shares[p - 1]),
            "targets": float(reached[p - 1]),
        }
        for p in places
    ]


def describe(data: PreparedData, max_seq_len: int) -> dict[str, Any]:
    """Return both with the number of events a model reads at most."""
    return {
        "lengths": sequence_lengths(np.asarray(data.train.lengths)),
        "popularity": popularity_curve(data.item_counts[1:], np.asarray(data.test.targets)),
        "max_seq_len": max_seq_len,
    }
