from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.data.events import Events
from tasks.data.ordering import find_order_warnings, measure_ties, sign_test_p_value, sort_events


def _events(users, items, times, rows=None) -> Events:
    rows = np.arange(len(users)) if rows is None else np.array(rows)
    return Events(np.array(users), np.array(items), np.array(times), rows)


def test_sort_events_orders_by_user_then_time_then_row() -> None:
    ordered = sort_events(_events([1, 0, 0, 0], [9, 8, 7, 6], [5, 3, 1, 1], [0, 1, 3, 2]))
    assert ordered.rows.tolist() == [2, 3, 1, 0]
    assert ordered.items.tolist() == [6, 7, 8, 9]


def test_sort_events_does_not_depend_on_the_order_given() -> None:
    generator = np.random.default_rng(0)
    users, times = generator.integers(0, 5, 400), generator.integers(0, 9, 400)
    events = _events(users, np.arange(400), times)
    shuffled = events.take(generator.permutation(400))
    assert np.array_equal(sort_events(events).rows, sort_events(shuffled).rows)
    assert np.array_equal(sort_events(events).rows, np.lexsort((events.rows, times, users)))


def test_measure_ties_hand_computed() -> None:
    # User 0: times 1 1 2, user 1: times 3 3, user 2: one event, user 3: 1 2 3.
    users = [0, 0, 0, 1, 1, 2, 3, 3, 3]
    times = [1, 1, 2, 3, 3, 3, 1, 2, 3]
    items = [4, 5, 3, 7, 6, 1, 2, 2, 9]
    ties = measure_ties(_events(users, items, times))
    assert ties.tied_share == pytest.approx(4 / 9)
    assert ties.last_two_tied_share == pytest.approx(1 / 3)
    assert (ties.tied_pairs, ties.tied_ascending_share) == (2, 0.5)
    assert (ties.pairs, ties.ascending_share) == (4, 0.5)


@pytest.mark.parametrize("size", [0, 1])
def test_measure_ties_of_almost_nothing(size: int) -> None:
    ties = measure_ties(_events([0] * size, [0] * size, [0] * size))
    assert (ties.tied_share, ties.last_two_tied_share, ties.tied_pairs) == (0.0, 0.0, 0)
    assert find_order_warnings(ties) == []


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 10), (700, 1000), (505, 1000)])
def test_sign_test_is_the_exact_binomial_test(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).pvalue if trials else 1.0
    assert sign_test_p_value(successes, trials) == pytest.approx(expected, rel=1e-9)


def test_sign_test_is_close_to_the_binomial_test_for_many_trials() -> None:
    assert sign_test_p_value(5200, 10_000) == pytest.approx(
        binomtest(5200, 10_000).pvalue, rel=0.02
    )


def _tied_log(order: str, generator: np.random.Generator) -> Events:
    """Return 300 users with baskets of five, at six times each."""
    items = generator.integers(0, 10_000, (1800, 5))
    if order == "ascending":
        items.sort(axis=1)
    elif order == "descending":
        items = -np.sort(-items, axis=1)
    users, times = np.repeat(np.arange(300), 30), np.tile(np.repeat(np.arange(6), 5), 300)
    return _events(users, items.ravel(), times)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_a_log_sorted_by_item_within_ties_is_reported(order: str) -> None:
    ties = measure_ties(_tied_log(order, np.random.default_rng(1)))
    found = {warning["id"]: warning for warning in find_order_warnings(ties)}
    assert order.removesuffix("ing") in found["ties_follow_item_ids"]["message"]


def test_positions_written_over_a_sorted_log_are_still_reported() -> None:
    log = _tied_log("ascending", np.random.default_rng(1))
    positions = _events(log.users, log.items, np.tile(np.arange(30), 300))
    found = [warning["id"] for warning in find_order_warnings(measure_ties(positions))]
    assert found == ["order_follows_item_ids"]


@pytest.mark.parametrize("seed", range(5))
def test_random_ties_stay_quiet(seed: int) -> None:
    ties = measure_ties(_tied_log("random", np.random.default_rng(seed)))
    assert ties.tied_share == 1.0
    assert find_order_warnings(ties) == []


def test_a_few_ascending_ties_stay_quiet() -> None:
    ties = measure_ties(_events([0] * 6, range(6), [1] * 6))
    assert ties.tied_ascending_share == 1.0
    assert find_order_warnings(ties) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_sorting_by_ranges_of_users_changes_nothing(seed: int, at_once: int) -> None:
    rng = np.random.default_rng(seed)
    users, times = rng.integers(0, 9, 50), rng.integers(0, 5, 50)
    events = _events(users, rng.integers(0, 7, 50), times, rng.permutation(50))
    expected, ordered = sort_events(events), sort_events(events, at_once)
    for name in ("users", "items", "times", "rows"):
        assert np.array_equal(getattr(ordered, name), getattr(expected, name))
