from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.baselines import logistic_regression
from tasks.baselines.history_features import FEATURES, FeatureTables
from tasks.baselines.logistic_regression import LogisticRegressionRecommender
from tasks.baselines.popularity import PopularityRecommender
from tasks.baselines.transitions import TransitionRecommender
from tasks.evaluation.metrics import ndcg
from tasks.evaluation.ranking import rank_targets

NUM_ITEMS = 40


def sample_chain(users: int, length: int, strength: float, seed: int) -> np.ndarray:
    """Sequences (users, length): with probability `strength` the next item depends on the last.

    Otherwise items are drawn by popularity (geometric), whatever came before.
    """
    generator = np.random.default_rng(seed)
    successor = np.random.default_rng(99).permutation(NUM_ITEMS) + 1
    popular = np.minimum(generator.geometric(0.08, (users, length)), NUM_ITEMS)
    follows = generator.random((users, length)) < strength
    items = popular.copy()
    for at in range(1, length):
        items[:, at] = np.where(follows[:, at], successor[items[:, at - 1] - 1], popular[:, at])
    return items


def fit(sequences: np.ndarray, **options) -> LogisticRegressionRecommender:
    offsets = np.arange(0, sequences.size + 1, sequences.shape[1])
    return LogisticRegressionRecommender.fit(
        sequences.ravel().astype(np.int32), offsets, NUM_ITEMS, **options
    )


def mean_ndcg(model, sequences: np.ndarray) -> float:
    histories, targets = torch.from_numpy(sequences[:, :-1]), torch.from_numpy(sequences[:, -1])
    scores = model.score(histories, torch.full((len(histories),), histories.shape[1]))
    return float(ndcg(rank_targets(scores, targets).numpy(), 10).mean())


def test_finds_transitions_as_well_as_counting_does() -> None:
    train, test = sample_chain(400, 15, 0.6, seed=0), sample_chain(400, 15, 0.6, seed=1)
    model = fit(train)
    counted = TransitionRecommender.fit(
        train.ravel().astype(np.int32), np.arange(0, train.size + 1, 15), NUM_ITEMS
    )
    assert model.weights["next_1"] > 0.5
    assert mean_ndcg(model, test) > mean_ndcg(counted, test) - 0.01
    assert mean_ndcg(counted, test) > 0.5


def test_no_target_leaks_into_its_own_features(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but popularity is there to learn: a model that finds more has seen its targets.
    train, test = sample_chain(300, 12, 0.0, seed=2), sample_chain(2000, 12, 0.0, seed=3)
    items, offsets = train.ravel().astype(np.int32), np.arange(0, train.size + 1, 12)
    popular = mean_ndcg(PopularityRecommender.fit(items, offsets, NUM_ITEMS), test)
    honest = fit(train)
    assert honest.weights["log_popularity"] == pytest.approx(1.0, abs=0.15)
    assert abs(honest.weights["next_1"]) < 0.5
    assert mean_ndcg(honest, test) > popular - 0.01

    # The same test notices tables that count the very events the weights are fitted on.
    everything = FeatureTables.count(items, offsets, NUM_ITEMS)
    monkeypatch.setattr(FeatureTables, "count", lambda *_: everything)
    leaking = fit(train)
    assert leaking.weights["next_1"] > 2.0
    assert mean_ndcg(leaking, test) < popular - 0.03


def test_learns_that_items_are_not_repeated() -> None:
    generator = np.random.default_rng(0)
    sequences = np.stack([generator.permutation(NUM_ITEMS)[:12] + 1 for _ in range(200)])
    model = fit(sequences)
    history = torch.tensor([[5, 9, 17]])
    scores = model.score(history, torch.tensor([3]))[0]
    assert max(scores[[5, 9, 17]]) < min(scores[i] for i in range(1, 41) if i not in (5, 9, 17))


def test_learns_that_items_are_repeated() -> None:
    generator = np.random.default_rng(0)
    favourites = generator.integers(1, NUM_ITEMS + 1, (200, 3))
    sequences = np.take_along_axis(favourites, generator.integers(0, 3, (200, 12)), axis=1)
    model = fit(sequences)
    scores = model.score(torch.tensor([[5, 9, 5, 9]]), torch.tensor([4]))
    assert set(scores[0].topk(2).indices.tolist()) == {5, 9}


def test_seed_decides_everything_drawn() -> None:
    sequences = sample_chain(60, 8, 0.5, seed=3)
    assert fit(sequences, seed=4).weights == fit(sequences, seed=4).weights
    assert fit(sequences, seed=4).weights != fit(sequences, seed=5).weights


def test_strong_regularisation_shrinks_towards_popularity() -> None:
    sequences = sample_chain(200, 10, 0.6, seed=3)
    model = fit(sequences, inverse_regularization=1e-7)
    assert model.weights["log_popularity"] == pytest.approx(1.0, abs=0.02)
    assert abs(model.weights["next_1"]) < 0.02


def test_work_is_bounded_on_large_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "MAX_TABLE_EVENTS", 200)
    monkeypatch.setattr(logistic_regression, "MAX_POSITIVES", 50)
    fitted_on = []
    original = logistic_regression.candidate_features

    def watch(item_ids, lengths, candidates, tables):
        fitted_on.append(candidates.shape)
        return original(item_ids, lengths, candidates, tables)

    monkeypatch.setattr(logistic_regression, "candidate_features", watch)
    model = fit(sample_chain(100, 12, 0.5, seed=0))
    # 16 users of 12 events fit into 200; a fifth of them give 33 events with a history.
    assert fitted_on == [(33, 1 + logistic_regression.NEGATIVES)]
    smaller = fit(sample_chain(16, 12, 0.5, seed=0)).tables.stacked.nnz
    assert model.tables.stacked.nnz == pytest.approx(smaller, rel=0.25)


def test_too_few_users_are_refused_with_the_reason() -> None:
    items, offsets = np.array([1, 2, 3, 1], np.int32), np.array([0, 3, 4])
    with pytest.raises(ValueError, match="1 of 2 users have two or more"):
        LogisticRegressionRecommender.fit(items, offsets, NUM_ITEMS)


def test_two_users_are_enough() -> None:
    items, offsets = np.array([1, 2, 3, 1], np.int32), np.array([0, 2, 4])
    model = LogisticRegressionRecommender.fit(items, offsets, NUM_ITEMS)
    assert np.isfinite(list(model.weights.values())).all()


def test_weights_can_be_read_on_disk(tmp_path: Path) -> None:
    model = fit(sample_chain(60, 8, 0.5, seed=3))
    model.save(tmp_path)
    saved = json.loads((tmp_path / "model.json").read_text())
    assert saved["weights"] == model.weights
    assert tuple(saved["weights"]) == FEATURES
