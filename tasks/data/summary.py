"""Numbers that describe a prepared log: lengths, popularity, cold targets, repeats."""

from __future__ import annotations

import numpy as np

from tasks.data.events import chunks
from tasks.data.prepared import EvaluationSplit, PreparedData

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
EXAMPLES_AT_ONCE = 2**14
HEAD_SHARE = 0.01
"""Share of the items called the head."""


def describe_popularity(counts: np.ndarray) -> dict[str, float]:
    """Describe how unequally events fall on items.

    Args:
        counts: (I,) training events per item, padding left out.

    Returns:
        ``effective_items`` (exponential of the entropy: the number of equally popular items with
        the same entropy), ``gini`` (0 equal to near 1), ``head_share`` (events on the most
        popular 1 % of items, one at least), ``top_item_share``.

    >>> describe_popularity(np.array([2, 2, 2, 2]))["effective_items"]
    4.0
    >>> describe_popularity(np.array([0, 0, 0, 8]))["gini"]
    0.75
    """
    total = counts.sum()
    if total == 0:
        return {"effective_items": 0.0, "gini": 0.0, "head_share": 0.0, "top_item_share": 0.0}
    ascending = np.sort(counts).astype(np.float64)
    shares = ascending[ascending > 0] / total
    size = len(counts)
    ranks = np.arange(1, size + 1)
    head = max(1, int(np.ceil(size * HEAD_SHARE)))
    return {
        "effective_items": round(float(np.exp(-(shares * np.log(shares)).sum())), 6),
        "gini": float(2 * (ranks * ascending).sum() / (size * total) - (size + 1) / size),
        "head_share": float(ascending[-head:].sum() / total),
        "top_item_share": float(ascending[-1] / total),
    }


def describe_lengths(lengths: np.ndarray) -> dict[str, float]:
    """Return mean and quantiles of sequence lengths (no interpolation), zeros if there is none.

    >>> describe_lengths(np.array([1, 2, 3]))["q50"]
    2.0
    """
    if not len(lengths):
        lengths = np.zeros(1, dtype=np.int64)
    values = np.quantile(lengths, QUANTILES, method="inverted_cdf")
    named = {f"q{round(q * 100):02d}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
    return {"mean": float(np.mean(lengths)), **named}


def describe_split(data: PreparedData, split: EvaluationSplit) -> dict[str, float]:
    """Count cold users, cold targets and repeated targets of a split.

    Returns:
        ``examples``; ``cold_users`` (no training event); ``targets_without_id`` (a miss at the
        worst rank); ``targets_without_training`` (no training event, with or without an id);
        ``repeated_targets`` (the item is already in the history); ``history_events`` held out.
    """
    repeated = np.zeros(len(split), dtype=bool)
    for part in chunks(len(split), EXAMPLES_AT_ONCE):
        rows, items = data.seen_items(split, np.arange(part.start, part.stop))
        repeated[part.start + rows[items == split.targets[part][rows]]] = True
    trained = data.item_counts[np.maximum(split.targets, 0)] > 0
    starts, stops = data.train.offsets[split.users], data.train.offsets[split.users + 1]
    return {
        "examples": len(split),
        "cold_users": int(np.count_nonzero(starts == stops)),
        "targets_without_id": int(np.count_nonzero(split.targets < 0)),
        "targets_without_training": int(np.count_nonzero(~trained)),
        "repeated_targets": int(np.count_nonzero(repeated)),
        "history_events": len(split.extra.rows),
    }


def describe(data: PreparedData) -> dict:
    """Return every statistic of the manifest."""
    lengths = data.train.lengths
    times = data.train.times
    return {
        "history_lengths": {
            "train": describe_lengths(lengths[lengths > 0]),
            "test": describe_lengths(lengths[data.test.users] + data.test.extra.lengths),
        },
        "popularity": describe_popularity(data.item_counts[1:]),
        "density": len(times) / max(data.num_users * data.num_items, 1),
        "first_training_time": int(times.min()),
        "last_training_time": int(times.max()),
        "val": describe_split(data, data.val),
        "test": describe_split(data, data.test),
    }
