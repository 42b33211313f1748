"""Times within training windows beside the times of the events they were cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity

LATEST = 4_102_444_800_000_000
"""Start of the year 2100 in microseconds."""


@dataclass(frozen=True)
class WindowTimes:
    """Times that are invalid, or that stand on another event."""

    out_of_range: int = quantity("events outside 1970 to 2100")
    wrong_positions: int | None = quantity("window positions with another time than their event")
    num_positions: int = quantity("window positions")
    first_wrong: str = ""


def measure(probe: Probe) -> WindowTimes:
    """Look each window's (item, time) runs up in its user's sequence."""
    data = probe.data
    times = np.concatenate(
        [data.train.times, data.val.extra.times, data.test.extra.times, data.test.target_times]
    )
    out_of_range = int(((times < 0) | (times >= LATEST)).sum())
    wrong, positions, first = 0, 0, ""
    batches = [b for b in probe.all_batches if b.times is not None and b.users is not None]
    for number, batch in enumerate(batches):
        for row in range(len(batch.item_ids)):
            real = batch.mask[row].cpu().numpy().astype(bool)
            items = batch.item_ids[row].cpu().numpy()[real]
            given = batch.times[row].cpu().numpy()[real]
            misses = _misses(probe, int(batch.users[row]), items, given)
            positions += len(items)
            wrong += misses
            if misses and not first:
                first = f"batch {number}, row {row}"
    return WindowTimes(out_of_range, wrong if batches else None, positions, first)


def _misses(probe: Probe, user: int, items: np.ndarray, times: np.ndarray) -> int:
    """Fewest positions whose time differs, over all places where the items stand."""
    train = probe.data.train
    if not len(items) or not 0 <= user < len(train):
        return 0
    own = slice(int(train.offsets[user]), int(train.offsets[user + 1]))
    own_items, own_times = np.asarray(train.items[own]), np.asarray(train.times[own])
    if len(own_items) < len(items):
        return 0
    views = np.lib.stride_tricks.sliding_window_view
    places = np.flatnonzero((views(own_items, len(items)) == items).all(axis=1))
    if not len(places):
        return 0  # another item there: the windows themselves are wrong
    return int((views(own_times, len(items))[places] != times).sum(axis=1).min())
