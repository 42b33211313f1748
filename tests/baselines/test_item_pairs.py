from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import sparse

from tasks.baselines.item_pairs import count_pairs, last_items, lift, smoothed_popularity


@pytest.mark.parametrize("window", [1, 2, 5, 40])
def test_pairs_are_those_of_a_plain_loop(window: int) -> None:
    generator = np.random.default_rng(window)
    sequences = [generator.integers(1, 8, n).tolist() for n in (6, 1, 0, 9, 3, 20)]
    expected = Counter(
        (sequence[i], sequence[j])
        for sequence in sequences
        for i in range(len(sequence))
        for j in range(i + 1, min(i + window, len(sequence) - 1) + 1)
    )
    items = np.concatenate([np.array(sequence, np.int32) for sequence in sequences])
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    found = count_pairs(items, offsets, 7, window=window).toarray()
    assert {(i, j): found[i, j] for i, j in zip(*found.nonzero(), strict=True)} == expected


def test_single_event_has_no_pairs() -> None:
    assert count_pairs(np.array([1]), np.array([0, 1]), 2, window=3).nnz == 0


def test_window_without_events_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        count_pairs(np.array([1]), np.array([0, 1]), 2, window=0)


def test_lift_by_hand_keeps_zeros() -> None:
    counts = sparse.csr_matrix(np.array([[0, 0, 0], [0, 0, 3], [0, 1, 1]], np.float32))
    popularity = np.array([0.0, 0.25, 0.5])
    found = lift(counts, popularity, shrinkage=1.0).toarray()
    expected = np.zeros((3, 3))
    expected[1, 2] = np.log1p((3 / 4) / 0.5)
    expected[2, 1] = np.log1p((1 / 3) / 0.25)
    expected[2, 2] = np.log1p((1 / 3) / 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lift_of_nothing_without_shrinkage_is_nothing() -> None:
    empty = sparse.csr_matrix((3, 3), dtype=np.float32)
    assert lift(empty, np.array([0.0, 0.5, 0.5]), shrinkage=0.0).nnz == 0


def test_popularity_sums_to_one_and_keeps_unseen_items_possible() -> None:
    popularity = smoothed_popularity(np.array([2, 2, 5]), 6)
    assert popularity.sum() == pytest.approx(1.0)
    assert popularity[0] == 0.0
    assert popularity.argmax() == 2
    assert (popularity[1:] > 0).all()


def test_last_items_end_where_the_history_does() -> None:
    item_ids, lengths = np.array([[4, 5, 6], [7, 0, 0], [0, 0, 0]]), np.array([3, 1, 0])
    assert last_items(item_ids, lengths, 1).tolist() == [6, 7, 0]
    assert last_items(item_ids, lengths, 3).tolist() == [4, 0, 0]
    assert last_items(np.zeros((2, 0), int), np.zeros(2, int), 1).tolist() == [0, 0]
