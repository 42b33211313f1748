"""Metrics within groups of users: by length of the history, by popularity of the target.

Groups have fixed edges, so that the same row means the same thing on every log and run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HISTORY_LENGTH_EDGES = (0, 1, 5, 10, 20, 50, 100, 200)
"""Lower ends of the groups of users, in events before the target."""

ITEM_POPULARITY_EDGES = (0, 1, 5, 20, 100, 500)
"""Lower ends of the groups of targets, in training events of the target; 0 is a cold item."""


def group_labels(edges: Sequence[int]) -> list[str]:
    """Return one label per group, the last one open.

    Example:
        >>> group_labels((0, 1, 5))
        ['0', '1-4', '5+']
    """
    ends = [upper - 1 for upper in edges[1:]]
    closed = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(edges, ends, strict=False)]
    return [*closed, f"{edges[-1]}+"]


def group_of(values: np.ndarray, edges: Sequence[int]) -> np.ndarray:
    """Return the index of each value's group, int64 (E,).

    Raises:
        ValueError: a value below the first edge.

    Example:
        >>> group_of(np.array([0, 4, 5, 900]), (0, 1, 5)).tolist()
        [0, 1, 2, 2]
    """
    groups = np.searchsorted(np.asarray(edges), values, side="right") - 1
    if (groups < 0).any():
        raise ValueError(f"value {np.min(values)} is below the first edge {edges[0]}.")
    return groups


def means_by_group(
    values: dict[str, np.ndarray], groups: np.ndarray, labels: Sequence[str]
) -> list[dict[str, str | int | float]]:
    """Return one row per group that has users: label, users, mean and standard error.

    Args:
        values: metric name -> float64 (E,), already averaged over seeds.
        groups: int64 (E,), index into `labels`.
        labels: one per group.

    Returns:
        Rows with keys `group`, `users`, and for every metric `<name>` and `<name>_se` (standard
        error over users; 0 where a group has one user only).

    Example:
        >>> rows = means_by_group({"hit": np.array([1.0, 0.0])}, np.array([1, 1]), ["a", "b"])
        >>> rows
        [{'group': 'b', 'users': 2, 'hit': 0.5, 'hit_se': 0.5}]
    """
    sizes = np.bincount(groups, minlength=len(labels))
    rows: list[dict[str, str | int | float]] = []
    for index in np.flatnonzero(sizes).tolist():
        members = groups == index
        row: dict[str, str | int | float] = {
            "group": labels[index],
            "users": int(sizes[index]),
        }
        for name, value in values.items():
            inside = value[members]
            row[name] = float(inside.mean())
            spread = inside.std(ddof=1) if len(inside) > 1 else 0.0
            row[f"{name}_se"] = float(spread / np.sqrt(len(inside)))
        rows.append(row)
    return rows
