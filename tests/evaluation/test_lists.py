from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.lists import coverage, mean_popularity, mean_popularity_percentile

COUNTS = np.array([0, 10, 10, 0, 30])  # items 1..4


@pytest.mark.parametrize(
    ("lists", "expected"),
    [([[1, 2], [1, 2]], 0.5), ([[4, 0], [4, 0]], 0.25), ([[1, 2], [3, 4]], 1.0), ([[0, 0]], 0.0)],
)
def test_coverage_by_hand(lists: list[list[int]], expected: float) -> None:
    assert coverage(np.array(lists), 4) == expected


def test_popularity_by_hand() -> None:
    # Percentiles: item 3 is lowest (12.5), 1 and 2 share the middle (50), 4 is highest (87.5).
    assert mean_popularity(np.array([[4, 1], [3, 0]]), COUNTS) == (20 + 0) / 2
    assert mean_popularity_percentile(np.array([[4, 1], [3, 0]]), COUNTS) == (68.75 + 12.5) / 2


def test_whole_catalogue_has_the_middle_percentile() -> None:
    lists = np.arange(1, 101)[None, :]
    counts = np.random.default_rng(0).integers(0, 5, 101)
    assert mean_popularity_percentile(lists, counts) == pytest.approx(50.0)


def test_lists_without_items_do_not_count_and_nothing_at_all_raises() -> None:
    assert mean_popularity(np.array([[4, 0], [0, 0]]), COUNTS) == 30.0
    with pytest.raises(ValueError, match="no list holds an item"):
        mean_popularity(np.zeros((2, 3), np.int64), COUNTS)
