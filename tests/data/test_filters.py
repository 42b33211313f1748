from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.events import Events
from tasks.data.filters import (
    filter_corpus,
    mask_duplicates,
    mask_k_core,
    mask_rated,
    mask_repeats,
)

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), max_size=40)


def _ordered(triples: list[tuple[int, int, int]]) -> Events:
    """Return events of (user, item, time) in order."""
    triples = sorted(triples, key=lambda e: (e[0], e[2]))
    users, items, times = (np.array([t[k] for t in triples], dtype=np.int64) for k in range(3))
    return Events(users, items, times, np.arange(len(triples)))


def _slow_k_core(pairs: list[tuple], min_user: int, min_item: int) -> list[int]:
    """Drop one user or item at a time."""
    kept = list(range(len(pairs)))
    while True:
        for k, least in ((0, min_user), (1, min_item)):
            values = [pairs[p][k] for p in kept]
            rare = next((v for v in sorted(set(values)) if values.count(v) < least), None)
            if rare is not None:
                kept = [p for p in kept if pairs[p][k] != rare]
                break
        else:
            return kept


@given(PAIRS, st.integers(1, 3), st.integers(1, 3))
def test_k_core_equals_dropping_one_at_a_time(pairs: list[tuple], least: int, rare: int) -> None:
    events = _ordered(pairs)
    mask = mask_k_core(events.users, events.items, least, rare)
    rows = list(zip(events.users.tolist(), events.items.tolist(), strict=True))
    assert np.flatnonzero(mask).tolist() == _slow_k_core(rows, least, rare)


def test_k_core_of_a_chain_unravels() -> None:
    # Every user but the last shares an item with the next: dropping the end drops all.
    users = np.repeat(np.arange(50), 2)
    items = np.arange(100) // 2 + np.tile([0, 1], 50)
    assert not mask_k_core(users, items, 2, 2).any()


def test_k_core_refuses_zero() -> None:
    with pytest.raises(ValueError, match="min_item_events is 0"):
        mask_k_core(np.array([0]), np.array([0]), 1, 0)


def test_mask_rated_handles_missing_ratings() -> None:
    ratings = pl.Series([1.0, None, 4.0, -1.0])
    assert mask_rated(ratings, 0.0).tolist() == [True, True, True, False]
    assert mask_rated(ratings, 4.0).tolist() == [False, False, True, False]


@given(PAIRS)
def test_mask_duplicates_keeps_the_first_of_each_triple(triples: list[tuple]) -> None:
    events = _ordered(triples)
    seen: set[tuple] = set()
    expected = []
    for event in zip(events.users, events.items, events.times, strict=True):
        expected.append(event in seen)
        seen.add(event)
    assert mask_duplicates(events).tolist() == expected


@given(PAIRS, st.sampled_from(["keep", "drop_consecutive", "first"]), st.integers(0, 40))
def test_repeats_are_decided_by_earlier_events_alone(triples, policy: str, cut: int) -> None:
    events = _ordered(triples)
    shorter = events.take(np.arange(min(cut, len(events))))
    assert np.array_equal(
        mask_repeats(shorter, policy), mask_repeats(events, policy)[: len(shorter)]
    )


def test_repeats_never_cross_users() -> None:
    events = Events(*(np.array(a) for a in ([0, 1], [7, 7], [0, 0], [0, 1])))
    assert mask_repeats(events, "drop_consecutive").all()
    assert mask_repeats(events, "first").all()


def test_filter_corpus_repeats_both_filters_until_stable() -> None:
    # User 0: A B A with B rare. Dropping B makes A A; dropping the repeat leaves one event of A.
    events = _ordered([(0, 1, 0), (0, 2, 1), (0, 1, 2), (1, 1, 0), (1, 3, 1), (2, 3, 0), (2, 1, 1)])
    positions, dropped = filter_corpus(events, "drop_consecutive", 2, 2)
    assert positions.tolist() == [3, 4, 5, 6]
    assert dropped == {"repeats": 1, "k_core": 2}


@given(PAIRS, st.sampled_from(["keep", "drop_consecutive", "first"]), st.integers(1, 3))
def test_filter_corpus_accounts_for_every_event(triples, policy: str, least: int) -> None:
    events = _ordered(triples)
    positions, dropped = filter_corpus(events, policy, least, least)
    assert len(positions) + sum(dropped.values()) == len(events)
    rest = events.take(positions)
    assert mask_repeats(rest, policy).all()
    assert mask_k_core(rest.users, rest.items, least, least).all()
