"""Properties a log can be given: repeats, cold and rare items, other times, other names."""

from __future__ import annotations

import itertools

import numpy as np

from tasks.diagnostics.subject import RawLog


def in_order(log: RawLog) -> np.ndarray:
    """Return the rows of a log by user, then time, then row."""
    return np.lexsort((np.arange(len(log)), log.time, log.user))


def from_last(log: RawLog, order: np.ndarray) -> np.ndarray:
    """Return how many events of the same user come after each row of `order`; 0 is the last."""
    _, user = np.unique(log.user[order], return_inverse=True)
    return np.cumsum(np.bincount(user))[user] - 1 - np.arange(len(order))


def with_items(log: RawLog, item: np.ndarray) -> RawLog:
    """Return a log with other items."""
    return RawLog(log.user, item, log.time, log.rating)


def shuffle_rows(log: RawLog, seed: int, rng: np.random.Generator) -> RawLog:
    """Put the rows of a log into random order."""
    return log.keep(np.random.default_rng([seed, 11]).permutation(len(log)))


def repeat_items(log: RawLog, share: float, rng: np.random.Generator) -> RawLog:
    """Let a share of the events repeat the user's event before."""
    order = in_order(log)
    item = log.item.copy()
    for before, row in itertools.pairwise(order):
        if log.user[before] == log.user[row] and rng.random() < share:
            item[row] = item[before]
    return with_items(log, item)


def add_blockbuster(log: RawLog, share: float, rng: np.random.Generator) -> RawLog:
    """Let one item have a share of all events."""
    item = log.item.copy()
    item[rng.random(len(log)) < share] = item[0]
    return with_items(log, item)


def share_prefixes(log: RawLog, wanted: bool, rng: np.random.Generator) -> RawLog:
    """Let every second user begin with the first four items of the user before."""
    order = in_order(log)
    starts = np.flatnonzero(np.append(True, log.user[order][1:] != log.user[order][:-1]))
    item = log.item.copy()
    for first, second in zip(starts[:-1:2], starts[1::2], strict=False):
        width = min(4, second - first, len(order) - second)
        item[order[second : second + width]] = item[order[first : first + width]]
    return with_items(log, item)


def shorten_users(log: RawLog, count: int, rng: np.random.Generator) -> RawLog:
    """Leave exactly three events to some users."""
    users = np.unique(log.user)[:count]
    order = in_order(log)
    dropped = order[np.isin(log.user[order], users) & (from_last(log, order) > 2)]
    return log.keep(np.setdiff1d(np.arange(len(log)), dropped))


def add_cold_items(log: RawLog, count: int, rng: np.random.Generator) -> RawLog:
    """Let the last event of some users be an item nobody had before."""
    order = in_order(log)
    last = rng.permutation(order[from_last(log, order) == 0])[:count]
    item = log.item.astype("U64")
    item[last] = [f"cold{number}" for number in range(len(last))]
    return with_items(log, item)


def add_rare_items(log: RawLog, count: int, rng: np.random.Generator) -> RawLog:
    """Add items with two training events and one held-out event."""
    order = in_order(log)
    later = from_last(log, order)
    training, last = rng.permutation(order[later > 3]), rng.permutation(order[later == 0])
    item = log.item.astype("U64")
    for number in range(min(count, len(last), len(training) // 2)):
        item[[training[2 * number], training[2 * number + 1], last[number]]] = f"rare{number}"
    return with_items(log, item)


def merge_times(log: RawLog, wanted: bool, rng: np.random.Generator) -> RawLog:
    """Cut times to weeks, so that many events of a user have the same one."""
    week = 7 * 86_400 * 1_000_000
    return RawLog(log.user, log.item, log.time // week * week, log.rating)


def stretch_times(log: RawLog, factor: int, rng: np.random.Generator) -> RawLog:
    """Multiply the time since the user's first event: users stay longer, their order is kept."""
    _, user = np.unique(log.user, return_inverse=True)
    first = np.full(user.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, user, log.time)
    since = log.time - first[user]
    return RawLog(log.user, log.item, first[user] + since * factor, log.rating)


def rename(log: RawLog, wanted: bool, rng: np.random.Generator) -> RawLog:
    """Give users and items long random names."""

    def names(values: np.ndarray) -> np.ndarray:
        distinct, code = np.unique(values, return_inverse=True)
        drawn = rng.integers(0, 2**63, size=(len(distinct), 2))
        return np.array([f"{high:016x}-{low:016x}" for high, low in drawn])[code]

    return RawLog(names(log.user), names(log.item), log.time, log.rating)
