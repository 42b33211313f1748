from __future__ import annotations

import numpy as np
import pytest

from tasks.baselines.history_features import (
    DECAY,
    FEATURES,
    SIMILAR_LAGS,
    FeatureTables,
    add_seen_bonus,
    candidate_features,
    weighted_rows,
)

NUM_ITEMS = 15
WIDTH = NUM_ITEMS + 1


@pytest.fixture(scope="module")
def tables() -> FeatureTables:
    generator = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(1, 15, 60))])
    items = generator.integers(1, NUM_ITEMS + 1, offsets[-1]).astype(np.int32)
    return FeatureTables.count(items, offsets, NUM_ITEMS)


@pytest.fixture
def histories() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    lengths = np.array([30, 1, 0, 4, 12])
    item_ids = generator.integers(1, NUM_ITEMS + 1, (5, 30)) * (np.arange(30) < lengths[:, None])
    return item_ids, lengths


def slow_features(history: list[int], candidate: int, tables: FeatureTables) -> dict[str, float]:
    """The formulas of the module's docstring, one candidate at a time."""
    dense = tables.stacked.toarray().reshape(3, WIDTH, WIDTH)
    following, near, around = dense
    latest_first = history[::-1]
    similar = latest_first[:SIMILAR_LAGS]
    lags = [lag for lag, item in enumerate(latest_first, start=1) if item == candidate]
    values = {
        "log_popularity": tables.log_popularity[candidate],
        "next_1": following[latest_first[0], candidate] if history else 0.0,
        "near_older": sum(DECAY**i * near[item, candidate] for i, item in enumerate(similar[3:])),
        "around": sum(around[item, candidate] for item in similar) / max(len(similar), 1),
        "seen": float(bool(lags)),
        "seen_recency": 1 / lags[0] if lags else 0.0,
        "seen_last": float(lags[:1] == [1]),
    }
    for lag in (1, 2, 3):
        values[f"near_{lag}"] = near[latest_first[lag - 1], candidate] if len(history) >= lag else 0
    return values


def test_candidate_features_follow_their_formulas(tables, histories) -> None:
    item_ids, lengths = histories
    candidates = np.tile(np.arange(1, WIDTH), (5, 1))
    found = candidate_features(item_ids, lengths, candidates, tables)
    for row, length in enumerate(lengths):
        for candidate in range(1, WIDTH):
            expected = slow_features(item_ids[row, :length].tolist(), candidate, tables)
            np.testing.assert_allclose(
                found[row, candidate - 1],
                [expected[name] for name in FEATURES],
                rtol=1e-5,
                err_msg=f"history {row}, candidate {candidate}",
            )


def test_sparse_product_is_the_weighted_sum_of_the_features(tables, histories) -> None:
    item_ids, lengths = histories
    generator = np.random.default_rng(5)
    weights = {name: float(generator.normal()) for name in FEATURES}
    scores = (weighted_rows(item_ids, lengths, weights, WIDTH) @ tables.stacked).toarray()
    scores[:, 1:] += weights["log_popularity"] * tables.log_popularity[1:]
    add_seen_bonus(scores, item_ids, lengths, weights)
    candidates = np.tile(np.arange(1, WIDTH), (5, 1))
    features = candidate_features(item_ids, lengths, candidates, tables)
    expected = features @ np.array([weights[name] for name in FEATURES])
    np.testing.assert_allclose(scores[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_no_history_leaves_popularity(tables) -> None:
    weights = dict.fromkeys(FEATURES, 1.0)
    empty, lengths = np.zeros((2, 0), np.int64), np.zeros(2, np.int64)
    assert weighted_rows(empty, lengths, weights, WIDTH).nnz == 0
    features = candidate_features(empty, lengths, np.array([[1], [2]]), tables)
    assert (features[:, :, 1:] == 0).all()


def test_tables_hold_nothing_for_padding(tables) -> None:
    dense = tables.stacked.toarray().reshape(3, WIDTH, WIDTH)
    assert (dense[:, 0] == 0).all()
    assert (dense[:, :, 0] == 0).all()
    np.testing.assert_array_equal(dense[2] > 0, (dense[1] > 0) | (dense[1].T > 0))
