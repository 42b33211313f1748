from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tasks.data.build import build_prepared
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.data.summary import describe, describe_lengths, describe_popularity


def test_popularity_hand_computed() -> None:
    found = describe_popularity(np.array([1, 3, 0, 4]))
    entropy = -sum(p * math.log(p) for p in (1 / 8, 3 / 8, 1 / 2))
    assert found["effective_items"] == pytest.approx(math.exp(entropy), abs=1e-6)
    # Mean absolute difference over twice the mean: pairs of (0, 1, 3, 4).
    assert found["gini"] == pytest.approx((2 * (1 + 3 + 4 + 2 + 3 + 1)) / (2 * 16 * 2))
    assert found["head_share"] == found["top_item_share"] == 0.5


def test_head_is_one_percent_of_the_items() -> None:
    counts = np.ones(300, dtype=np.int64)
    counts[[5, 50, 100]] = 101
    assert describe_popularity(counts)["head_share"] == pytest.approx(303 / 600)


def test_popularity_without_events_is_zero() -> None:
    assert set(describe_popularity(np.zeros(3, dtype=np.int64)).values()) == {0.0}


@pytest.mark.parametrize(
    ("lengths", "median", "largest"), [([], 0, 0), ([4], 4, 4), ([1, 1, 2, 9], 1, 9)]
)
def test_lengths_hand_computed(lengths: list[int], median: int, largest: int) -> None:
    found = describe_lengths(np.array(lengths, dtype=np.int64))
    assert (found["q50"], found["q100"]) == (median, largest)


def test_describe_counts_cold_and_repeated_targets(toy: PreparedData) -> None:
    found = describe(toy)
    assert found["test"] == {
        "examples": 3,
        "cold_users": 0,
        "targets_without_id": 0,
        "targets_without_training": 1,
        "repeated_targets": 2,
        "history_events": 3,
    }
    assert found["val"]["repeated_targets"] == 2
    assert found["history_lengths"]["train"]["mean"] == 2.0
    assert found["history_lengths"]["test"]["mean"] == 3.0
    assert found["density"] == pytest.approx(6 / 12)


def test_describe_counts_targets_without_an_id(tmp_path: Path, toy_log) -> None:
    build_prepared(tmp_path / "prepared", toy_log, Recipe(vocabulary="train"))
    found = describe(PreparedData.load(tmp_path / "prepared"))["test"]
    assert (found["targets_without_id"], found["targets_without_training"]) == (1, 1)
