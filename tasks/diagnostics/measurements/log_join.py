"""Every prepared training event beside the row of the raw log it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class LogJoin:
    """Disagreements between prepared training sequences and the raw log, by row number."""

    num_events: int = quantity("training events")
    unknown_rows: int = quantity("events whose row is not in the log")
    wrong_user: int = quantity("events of another user")
    wrong_item: int = quantity("events whose decoded item is another one")
    scattered_items: int = quantity("raw items that stand behind several ids within training")
    wrong_time: int = quantity("events with another time")
    repeated_rows: int = quantity("events used more than once")
    time_reversals: int = quantity("consecutive events whose raw times go backwards")
    stored_reversals: int = quantity("consecutive events whose stored times go backwards")
    first_wrong_item: str = ""
    first_wrong_user: str = ""
    first_wrong_time: str = ""
    first_reversal: str = ""


def measure(probe: Probe) -> LogJoin:
    """Join by row number; equal times may stand in any order, repeats of an item are no fault."""
    log = probe.subject.log
    if log is None:
        raise NotOfferedError("log")
    prepared = probe.prepared
    train = prepared.data.train
    rows = np.asarray(train.rows)
    if len(rows) == 0:
        raise NotMeasuredError("training events")
    if (rows < 0).all():
        raise NotMeasuredError("row numbers of the raw log in the prepared sequences")
    owner = np.repeat(np.arange(len(train)), train.lengths)
    known = (rows >= 0) & (rows < len(log))
    safe = np.where(known, rows, 0)
    items = np.asarray(train.items)
    inside = (items >= 1) & (items < len(prepared.item_labels))
    decoded = as_text(prepared.item_labels)[np.where(inside, items, 0)]
    item_differs = ~inside | (decoded != as_text(log.item[safe]))
    user_differs = as_text(prepared.user_labels)[owner] != as_text(log.user[safe])
    raw_times, times = log.time[safe], np.asarray(train.times)
    time_differs = raw_times != times
    same_sequence = owner[1:] == owner[:-1]
    reversal = same_sequence & (raw_times[1:] < raw_times[:-1])
    stored = same_sequence & (times[1:] < times[:-1])

    def place(wrong: np.ndarray) -> str:
        if not wrong.any():
            return ""
        at = int(wrong.argmax())
        return f"training sequence {owner[at]}, position {at - train.offsets[owner[at]]}"

    return LogJoin(
        num_events=len(rows),
        unknown_rows=int((~known).sum()),
        wrong_user=int((known & user_differs).sum()),
        wrong_item=int((known & item_differs).sum()),
        scattered_items=_scattered(log.item[safe][known], items[known]),
        wrong_time=int((known & time_differs).sum()),
        repeated_rows=len(rows) - len(np.unique(rows)),
        time_reversals=int(reversal.sum()),
        stored_reversals=int(stored.sum()),
        first_wrong_item=place(known & item_differs),
        first_wrong_user=place(known & user_differs),
        first_wrong_time=place(known & time_differs),
        first_reversal=place(np.append(reversal, False)),
    )


def _scattered(raw: np.ndarray, ids: np.ndarray) -> int:
    """Count raw items with more than one id: no map makes them, only a shuffle does."""
    pairs = np.unique(np.stack([np.unique(raw, return_inverse=True)[1], ids], axis=1), axis=0)
    return len(pairs) - len(np.unique(pairs[:, 0]))


def as_text(ids: np.ndarray) -> np.ndarray:
    """Return ids as text, so that 7 and "7" are the same id.

    >>> as_text(np.array([7, 12])).tolist()
    ['7', '12']
    """
    ids = np.asarray(ids)
    if ids.dtype.kind == "f" and len(ids) and np.isfinite(ids).all() and (ids % 1 == 0).all():
        ids = ids.astype(np.int64)
    return ids.astype(str)
