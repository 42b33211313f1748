"""Interactions as integer arrays: the form every later step works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

EVENT_DTYPES = (np.int32, np.int32, np.int64, np.int64)
"""Of users, items, times and rows."""

CHUNK = 2**22
"""Events that are worked on at a time where intermediate arrays would outgrow the log itself."""


@dataclass(frozen=True)
class Events:
    """N events as parallel arrays.

    Attributes:
        users: (N,) int32, position of the user in a list of raw ids; -1 is not in the list.
        items: (N,) int32, position of the item in a list of raw ids; -1 is not in the list.
        times: (N,) int64, microseconds since the epoch.
        rows: (N,) int64, row in the raw log: the identity of an event.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        """Number of events."""
        return len(self.rows)

    def take(self, selector: np.ndarray) -> Events:
        """Return the events a boolean mask or an array of positions selects."""
        return Events(
            self.users[selector], self.items[selector], self.times[selector], self.rows[selector]
        )


def chunks(length: int, size: int = CHUNK) -> Iterator[slice]:
    """Cut ``range(length)`` into consecutive slices.

    >>> [(part.start, part.stop) for part in chunks(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def count_codes(codes: np.ndarray, num_codes: int, where: np.ndarray | None = None) -> np.ndarray:
    """Count every code in 0..``num_codes`` - 1, as ``bincount`` does in less memory; int64.

    Args:
        codes: (N,) integers.
        num_codes: Length of the result.
        where: (N,) bool, which to count; all by default.

    >>> count_codes(np.array([2, 0, 2]), 4, np.array([True, True, False])).tolist()
    [1, 0, 1, 0]
    """
    counts = np.zeros(num_codes, dtype=np.int64)
    for part in chunks(len(codes)):
        chosen = codes[part] if where is None else codes[part][where[part]]
        counts += np.bincount(chosen, minlength=num_codes)
    return counts


def list_raw_ids(values: pl.Series) -> pl.Series:
    """Return the distinct raw ids, shorter ones first, then in byte order.

    The order depends on the set of ids alone, and whole numbers come out in numeric order.

    >>> list_raw_ids(pl.Series(["10", "9", "b", "9"])).to_list()
    ['9', 'b', '10']
    """
    distinct = values.unique().alias("raw_id").to_frame()
    return distinct.sort(pl.col("raw_id").str.len_bytes(), "raw_id")["raw_id"]


def find_positions(values: pl.Series, raw_ids: pl.Series) -> np.ndarray:
    """Return the position of every value in ``raw_ids``, -1 where it is not listed.

    Args:
        values: (N,) text.
        raw_ids: Distinct text.

    Returns:
        (N,) int32.

    >>> find_positions(pl.Series(["b", "a", "x"]), pl.Series(["a", "b"])).tolist()
    [1, 0, -1]
    """
    if raw_ids.is_empty():
        return np.full(len(values), -1, dtype=np.int32)
    codes = values.cast(pl.Enum(raw_ids), strict=False).to_physical()
    return codes.cast(pl.Int32).fill_null(-1).to_numpy()


def to_events(frame: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> Events:
    """Turn a table of interactions into arrays, in the table's order.

    Args:
        frame: Columns ``user_id``, ``item_id``, ``timestamp``, ``row``, none missing a value.
        user_ids: Raw user ids that get a position.
        item_ids: Raw item ids that get a position.
    """
    return Events(
        users=find_positions(frame["user_id"], user_ids),
        items=find_positions(frame["item_id"], item_ids),
        times=frame["timestamp"].to_numpy(),
        rows=frame["row"].to_numpy(),
    )
