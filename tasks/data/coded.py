"""A valid log as integers: raw ids are positions in the lists of distinct ones, looked up once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.data.events import Events, list_raw_ids, to_events


@dataclass(frozen=True)
class CodedLog:
    """A log of N usable rows.

    Attributes:
        user_ids: Distinct raw user ids in the order of `list_raw_ids`; ids of rows that a filter
            drops may be among them.
        item_ids: Distinct raw item ids, likewise.
        num_rows: N.
        events: Returns the events, rows ascending. A log on disk is mapped anew by every call, so
            that its pages are given back when the arrays are no longer used.
        ratings: Returns the ratings, null where there is none; None where the log has no ratings.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    num_rows: int
    events: Callable[[], Events]
    ratings: Callable[[], pl.Series] | None = None


def encode_log(log: pl.DataFrame | CodedLog) -> CodedLog:
    """Turn a table of interactions into integers; what is coded already is returned as it is.

    Args:
        log: Usable rows, as ``split_valid`` returns them.

    >>> table = {"user_id": ["b", "a"], "item_id": ["x", "x"], "timestamp": [1, 2], "row": [0, 1]}
    >>> encode_log(pl.DataFrame(table)).events().users.tolist()
    [1, 0]
    """
    if isinstance(log, CodedLog):
        return log
    user_ids, item_ids = list_raw_ids(log["user_id"]), list_raw_ids(log["item_id"])
    events = to_events(log, user_ids, item_ids)
    ratings = log["rating"] if "rating" in log.columns else None
    return CodedLog(
        user_ids,
        item_ids,
        len(log),
        lambda: events,
        None if ratings is None else lambda: ratings,
    )


def number_codes(occurs: np.ndarray, first_id: int) -> np.ndarray:
    """Return gapless ids, in code order, of the codes that occur; -1 for all others; int32.

    >>> number_codes(np.array([True, False, True]), first_id=1).tolist()
    [1, -1, 2]
    """
    return np.where(occurs, np.cumsum(occurs) - 1 + first_id, -1).astype(np.int32)
