"""Corpus filters: rating threshold, exact duplicates, repeats, k-core."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from tasks.data.events import Events, count_codes

RepeatsPolicy = Literal["keep", "drop_consecutive", "first"]
DuplicatesPolicy = Literal["keep", "drop"]


def mask_rated(ratings: pl.Series, threshold: float) -> np.ndarray:
    """Return which ratings are at least ``threshold``; missing ones pass only up to threshold 0.

    >>> mask_rated(pl.Series([5.0, 3.0, None]), 4.0).tolist()
    [True, False, False]
    """
    return (ratings >= threshold).fill_null(threshold <= 0).to_numpy()


def mask_duplicates(events: Events) -> np.ndarray:
    """Return which events repeat an earlier one in user, item and time.

    Args:
        events: N events ordered by (user, time, row).

    Returns:
        (N,) bool, false for the first of each group.

    >>> toy = Events(*(np.array(a) for a in ([0, 0, 0], [7, 8, 7], [1, 1, 1], [0, 1, 2])))
    >>> mask_duplicates(toy).tolist()
    [False, False, True]
    """
    duplicate = np.zeros(len(events), dtype=bool)
    tied = np.zeros(len(events), dtype=bool)
    same = (events.users[1:] == events.users[:-1]) & (events.times[1:] == events.times[:-1])
    tied[1:] |= same
    tied[:-1] |= same
    at = np.flatnonzero(tied)
    group = np.cumsum(np.append(True, ~same)[at]) if len(at) else np.zeros(0, dtype=np.int64)
    duplicate[at] = ~_first_of_pair(group, events.items[at])
    return duplicate


def mask_repeats(events: Events, policy: RepeatsPolicy) -> np.ndarray:
    """Return which events to keep under a repeats policy; earlier events alone decide.

    Args:
        events: N events ordered by (user, time, row).
        policy: ``keep`` all; ``drop_consecutive`` drops an event whose item is that of the
            user's previous event; ``first`` keeps an item's first event of a user.

    Returns:
        (N,) bool.

    >>> toy = Events(*(np.array(a) for a in ([0] * 4, [7, 7, 8, 7], range(4), range(4))))
    >>> mask_repeats(toy, "drop_consecutive").tolist()
    [True, False, True, True]
    >>> mask_repeats(toy, "first").tolist()
    [True, False, True, False]
    """
    if policy == "first":
        return _first_of_pair(events.users, events.items)
    kept = np.ones(len(events), dtype=bool)
    if policy == "drop_consecutive":
        same_user = events.users[1:] == events.users[:-1]
        kept[1:] = ~(same_user & (events.items[1:] == events.items[:-1]))
    return kept


def _first_of_pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which positions hold a pair for the first time."""
    if not len(first):
        return np.zeros(0, dtype=bool)
    key = first.astype(np.int64) * (int(second.max()) + 1) + second
    return pl.Series(key).is_first_distinct().to_numpy()


def mask_k_core(
    users: np.ndarray, items: np.ndarray, min_user_events: int, min_item_events: int
) -> np.ndarray:
    """Return which events remain when rare users and items are dropped until none is left.

    Args:
        users: (N,) non-negative integers.
        items: (N,) non-negative integers.
        min_user_events: Fewest events of a user, at least 1.
        min_item_events: Fewest events of an item, at least 1.

    Returns:
        (N,) bool. The result is the largest such set, whatever the order of dropping.

    Raises:
        ValueError: A minimum is below 1.

    >>> users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    >>> mask_k_core(users, items, 2, 2).tolist()
    [True, True, True, True, False]
    """
    if min(min_user_events, min_item_events) < 1:
        raise ValueError(
            f"min_user_events is {min_user_events} and min_item_events is {min_item_events}; "
            "expected both at least 1 (1 keeps everything)."
        )
    mask = np.ones(len(users), dtype=bool)
    num_users, num_items = int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1
    left = len(users)
    while left:
        mask &= (count_codes(users, num_users, mask) >= min_user_events)[users]
        mask &= (count_codes(items, num_items, mask) >= min_item_events)[items]
        before, left = left, int(np.count_nonzero(mask))
        if left == before:
            break
    return mask


def filter_corpus(
    events: Events, repeats: RepeatsPolicy, min_user_events: int, min_item_events: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Apply the repeats policy and the k-core until neither drops anything.

    Dropping a rare item can put two events of another item side by side, so the two filters run
    in turns.

    Args:
        events: N events ordered by (user, time, row).
        repeats: Policy of ``mask_repeats``.
        min_user_events: Fewest events of a user.
        min_item_events: Fewest events of an item.

    Returns:
        Positions of the remaining events, ascending, and how many each filter dropped.
    """
    positions = np.arange(len(events))
    dropped = {"repeats": 0, "k_core": 0}
    while True:
        kept = mask_repeats(events, repeats)
        dropped["repeats"] += len(kept) - int(kept.sum())
        if not kept.all():
            events, positions = events.take(kept), positions[kept]
        kept = mask_k_core(events.users, events.items, min_user_events, min_item_events)
        dropped["k_core"] += len(kept) - int(kept.sum())
        if kept.all():
            return positions, dropped
        events, positions = events.take(kept), positions[kept]
