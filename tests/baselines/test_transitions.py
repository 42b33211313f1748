from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.baselines.transitions import TransitionRecommender

# Transitions: 1 -> 2 twice, 1 -> 3 once, 2 -> 1 once. Events: 1 four times, 2 three, 3 one.
ITEMS = np.array([1, 2, 1, 2, 2, 1, 3, 1], np.int32)
OFFSETS = np.array([0, 4, 5, 7, 8])
POPULARITY = np.array([5, 4, 2, 1]) / 12


def score(model: TransitionRecommender, *history: int) -> np.ndarray:
    item_ids = torch.tensor([history or [0]])
    return model.score(item_ids, torch.tensor([len(history)]))[0, 1:].numpy()


def test_score_is_the_smoothed_probability() -> None:
    model = TransitionRecommender.fit(ITEMS, OFFSETS, 4, smoothing=2.0)
    expected = (np.array([0, 2, 1, 0]) + 2.0 * POPULARITY) / (3 + 2.0)
    np.testing.assert_allclose(score(model, 3, 1), expected, rtol=1e-6)


def test_sequence_ends_are_no_transitions() -> None:
    model = TransitionRecommender.fit(ITEMS, OFFSETS, 4)
    np.testing.assert_allclose(score(model, 3), POPULARITY, rtol=1e-6)  # 3 always ends


def test_user_without_history_gets_popularity() -> None:
    model = TransitionRecommender.fit(ITEMS, OFFSETS, 4)
    np.testing.assert_allclose(score(model), POPULARITY, rtol=1e-6)


def test_only_the_last_item_counts() -> None:
    model = TransitionRecommender.fit(ITEMS, OFFSETS, 4)
    np.testing.assert_array_equal(score(model, 1, 2, 3, 2), score(model, 2))


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 50.0])
def test_probabilities_sum_to_one(smoothing: float) -> None:
    generator = np.random.default_rng(0)
    items, offsets = generator.integers(1, 31, 500).astype(np.int32), np.arange(0, 501, 10)
    model = TransitionRecommender.fit(items, offsets, 30, smoothing=smoothing)
    scores = model.score(torch.arange(1, 31)[:, None], torch.ones(30, dtype=torch.long))
    np.testing.assert_allclose(scores[:, 1:].sum(dim=1).numpy(), 1.0, rtol=1e-5)


def test_weak_smoothing_backs_off_in_order_of_counts_then_popularity() -> None:
    model = TransitionRecommender.fit(ITEMS, OFFSETS, 4, smoothing=1e-3)
    assert (np.argsort(-score(model, 1)) + 1).tolist() == [2, 3, 1, 4]


def test_no_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"smoothing is 0\.0; expected above 0"):
        TransitionRecommender.fit(ITEMS, OFFSETS, 4, smoothing=0.0)
