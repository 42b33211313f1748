"""Does the order of events carry anything? Repeated transitions beside shuffled sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.measurements.log_join import as_text
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

SHUFFLES = 20
MAX_EVENTS = 100_000
"""Whole users up to this many events are read; 20 shuffles of them take half a second."""


@dataclass(frozen=True)
class OrderInLog:
    """Transitions that repeat, over what shuffling every sequence within itself leaves of them."""

    z_score: float = quantity("standard deviations of the shuffled sequences")
    excess: float = quantity("repeated transitions beyond chance, per one by chance")
    excess_error: float = quantity("standard deviation of the excess")
    log_z_score: float | None = quantity("standard deviations, raw log sorted by user and time")
    log_excess: float | None = quantity("the same excess in the raw log")
    num_events: int = quantity("training events read")


def measure(probe: Probe) -> OrderInLog:
    """Count repeated transitions in training sequences, and in the raw log where it is given."""
    train = probe.data.train
    items, owners = _whole_users(np.asarray(train.items), np.asarray(train.offsets))
    if len(items) < 2:
        raise NotMeasuredError("training sequences of two events")
    z_score, excess, error = excess_of_repeats(items, owners, probe.seed)
    log_z, log_excess = None, None
    log = probe.subject.log
    if log is not None and len(log):
        user = np.unique(as_text(log.user), return_inverse=True)[1]
        item = np.unique(as_text(log.item), return_inverse=True)[1] + 1
        order = np.lexsort((log.time, user))
        edges = np.flatnonzero(np.diff(user[order], prepend=-1, append=-1))
        found = _whole_users(item[order], edges)
        log_z, log_excess, _ = excess_of_repeats(*found, probe.seed)
    return OrderInLog(z_score, excess, error, log_z, log_excess, len(items))


def excess_of_repeats(
    items: np.ndarray, owners: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Compare coinciding transitions with shuffles that keep every user's items.

    The statistic is the number of pairs of equal transitions i -> j with i != j: repeats of one
    item after itself are habit, not order.

    Args:
        items: (N,) items of users laid end to end, 1 or more.
        owners: (N,) user of each event, ascending.
        seed: Of the shuffles.

    Returns:
        z-score, relative excess, and the standard deviation of the latter under shuffling.
    """
    rng = np.random.default_rng(seed)
    width = int(items.max()) + 1
    inside = owners[1:] == owners[:-1]

    def coincidences(order: np.ndarray) -> float:
        follows = inside & (order[1:] != order[:-1])
        codes = order[:-1][follows].astype(np.int64) * width + order[1:][follows]
        counts = np.unique(codes, return_counts=True)[1].astype(float)
        return float((counts * (counts - 1)).sum() / 2)

    shuffled = []
    for _ in range(SHUFFLES):
        shuffled.append(coincidences(items[np.lexsort((rng.random(len(items)), owners))]))
    mean, deviation = float(np.mean(shuffled)), float(np.std(shuffled, ddof=1))
    # At least the spread of a Poisson count, so that few coincidences are no proof.
    deviation = max(deviation, (mean + 1.0) ** 0.5)
    found = coincidences(items)
    scale = max(mean, 1.0)
    return (found - mean) / deviation, (found - mean) / scale, deviation / scale


def _whole_users(items: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stop = int(np.searchsorted(offsets, MAX_EVENTS, side="right")) - 1
    stop = max(1, stop)
    lengths = np.diff(offsets[: stop + 1])
    return items[: int(offsets[stop])], np.repeat(np.arange(stop), lengths)
