"""The Bayes-optimal scorer against hand computation, brute force and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.data.bayes import bayes_scores, predict, score_optimum, taste_posterior
from tasks.data.generator import COMPONENTS, Generator
from tasks.data.synthetic import build_generator, sample_sequences

EQUAL = dict.fromkeys(COMPONENTS, 1 / 6)
MIXED = {"popularity": 0.1, "taste": 0.3, "order1": 0.2, "order2": 0.15, "lag": 0.15, "state": 0.1}


def build(mixture: dict, num_items: int = 9, **changes: object) -> Generator:
    arguments = {"num_tastes": 3, "zipf_exponent": 1.0, "lag": 3, "branching": 3, "seed": 4}
    return build_generator(num_items=num_items, mixture=mixture, **{**arguments, **changes})


@pytest.fixture
def tiny() -> Generator:
    """Three items, two tastes; half popularity, half taste."""
    return replace(
        build({"popularity": 0.5, "taste": 0.5}, num_items=3, num_tastes=2),
        popularity=np.array([0.5, 0.3, 0.2]),
        taste_prior=np.array([0.5, 0.5]),
        item_taste=np.array([0, 1, 0]),
        taste_probability=np.array([0.75, 1.0, 0.25]),
    )


def test_by_hand(tiny: Generator) -> None:
    # Before any event: tastes equally likely.
    assert bayes_scores(tiny, []) == pytest.approx([0.4375, 0.4, 0.1625])
    # After item 0: p(0 | taste 0) = .25 + .375, p(0 | taste 1) = .25, so taste 0 has 5/7.
    posterior, _ = taste_posterior(tiny, np.array([[0]]), np.array([1]))
    assert posterior[0] == pytest.approx([5 / 7, 2 / 7])
    expected = [0.25 + 0.375 * 5 / 7, 0.15 + 0.5 * 2 / 7, 0.1 + 0.125 * 5 / 7]
    assert bayes_scores(tiny, [0]) == pytest.approx(expected)
    # After 0, 1: taste 0 gave .625 * .15, taste 1 gave .25 * .65.
    posterior, _ = taste_posterior(tiny, np.array([[0, 1]]), np.array([2]))
    assert posterior[0, 0] == pytest.approx(0.09375 / (0.09375 + 0.1625))


def slow_distribution(generator: Generator, history: list[int], taste: int) -> np.ndarray:
    """Mixture of one user, written from the definition, item by item."""
    n, num_items = len(history), generator.num_items
    state = 0
    for item in history:
        state = int(generator.state_moves[item][state])
    keys = {"state": int(generator.state_keys[state])}
    if n >= 1:
        keys["order1"] = int(generator.order1_keys[history[-1]])
    if n >= 2:
        keys["order2"] = int(
            generator.order2_keys[0][history[-1]] + generator.order2_keys[1][history[-2]]
        )
    if n >= generator.lag:
        keys["lag"] = int(generator.lag_keys[history[-generator.lag]])
    parts = {
        "popularity": generator.popularity,
        "taste": np.where(generator.item_taste == taste, generator.taste_probability, 0.0),
    }
    for name, key in keys.items():
        table = generator.tables[name]
        parts[name] = np.zeros(num_items)
        for step, weight in enumerate(table.weights):
            parts[name][table.ring[(key + step) % num_items]] += weight
    weights = {name: generator.mixture[COMPONENTS.index(name)] for name in parts}
    total = sum(weights.values())
    if total == 0:
        return generator.popularity
    return sum(weights[name] / total * parts[name] for name in parts)


def slow_scores(generator: Generator, history: list[int]) -> np.ndarray:
    """Bayes' rule by full enumeration of the tastes."""
    joint = []
    for taste in range(generator.num_tastes):
        likelihood = float(generator.taste_prior[taste])
        for n, item in enumerate(history):
            likelihood *= slow_distribution(generator, history[:n], taste)[item]
        joint.append(likelihood)
    posterior = np.array(joint) / sum(joint)
    return sum(
        posterior[taste] * slow_distribution(generator, history, taste)
        for taste in range(generator.num_tastes)
    )


@pytest.mark.parametrize("mixture", [EQUAL, MIXED, {"taste": 0.4, "lag": 0.6}])
@pytest.mark.parametrize("num_states", [2, 5])
def test_matches_enumeration(mixture: dict, num_states: int) -> None:
    generator = build(mixture, num_states=num_states)
    lengths = np.array([8, 8, 5, 3, 2, 1, 0])
    items, _ = sample_sequences(generator, lengths, np.random.default_rng(0))
    scores = predict(generator, items, lengths)
    for row, length in enumerate(lengths):
        history = items[row, :length].tolist()
        assert scores[row] == pytest.approx(slow_scores(generator, history), abs=1e-12)
        assert scores[row] == pytest.approx(bayes_scores(generator, history), abs=1e-12)
    assert scores.sum(axis=1) == pytest.approx(np.ones(7))
    posterior, _ = taste_posterior(generator, items, lengths)
    assert posterior.sum(axis=1) == pytest.approx(np.ones(7))


def test_padding_and_other_rows_change_nothing() -> None:
    generator = build(MIXED)
    items, _ = sample_sequences(generator, np.array([6, 4]), np.random.default_rng(0))
    scores = predict(generator, items, np.array([6, 4]))
    changed = items.copy()
    changed[1, 4:] = 5
    assert np.array_equal(predict(generator, changed, np.array([6, 4])), scores)
    assert predict(generator, items[1:, :4], np.array([4]))[0] == pytest.approx(scores[1], abs=0)


def test_frequencies_match_the_predicted_distribution() -> None:
    generator = build(MIXED, num_items=5)
    lengths = np.full(60_000, 4)
    items, _ = sample_sequences(generator, lengths, np.random.default_rng(2))
    for history in ([0, 1, 2], [3, 3, 1], [4, 0, 0]):
        after = items[(items[:, :3] == history).all(axis=1), 3]
        expected = bayes_scores(generator, history) * len(after)
        counts = np.bincount(after, minlength=5)
        assert len(after) > 200
        assert ((counts - expected) ** 2 / expected).sum() < 30  # 4 degrees: p ~ 5e-6


def test_posterior_is_calibrated() -> None:
    generator = build(MIXED, num_items=40)
    lengths = np.full(20_000, 6)
    items, tastes = sample_sequences(generator, lengths, np.random.default_rng(3))
    posterior, _ = taste_posterior(generator, items, lengths)
    for low in (0.1, 0.3, 0.5, 0.7):
        chosen = (posterior[:, 0] >= low) & (posterior[:, 0] < low + 0.2)
        share = (tastes[chosen] == 0).mean()
        error = 0.5 / np.sqrt(chosen.sum())
        assert share == pytest.approx(posterior[chosen, 0].mean(), abs=4 * error)


@pytest.mark.parametrize("name", ["order1", "order2", "lag", "state"])
def test_optimum_of_one_component_is_its_weights(name: str) -> None:
    generator = build({name: 1.0}, num_items=50, branching=5)
    lengths = np.full(3000, 8)
    items, _ = sample_sequences(generator, lengths, np.random.default_rng(5))
    metrics = score_optimum(predict(generator, items, lengths - 1), items[:, 7], [1, 3, 5])
    weights = generator.tables[name].weights
    for k in (1, 3, 5):
        best = weights[:k].sum()
        assert metrics[f"expected_hit_rate_at_{k}"] == pytest.approx(np.full(3000, best))
        gain = (weights[:k] / np.log2(np.arange(2, k + 2))).sum()
        assert metrics[f"expected_ndcg_at_{k}"] == pytest.approx(np.full(3000, gain))
        assert metrics[f"hit_rate_at_{k}"].mean() == pytest.approx(best, abs=0.04)


def test_optimum_of_popularity_and_of_a_known_taste() -> None:
    popular = build({"popularity": 1.0}, num_items=50)
    best = np.sort(popular.popularity)[::-1][:10].sum()
    assert score_optimum(bayes_scores(popular, [1])[None], np.array([0]), [10])[
        "expected_hit_rate_at_10"
    ] == pytest.approx(best)
    taste = build({"taste": 1.0}, num_items=50)
    own = np.sort(taste.taste_probability[taste.item_taste == taste.item_taste[7]])[::-1]
    # One event shows the taste, since tastes share no item.
    scores = bayes_scores(taste, [7])
    assert np.sort(scores)[::-1][: len(own)] == pytest.approx(own)


def test_no_other_ranking_is_better() -> None:
    generator = build(MIXED, num_items=60)
    lengths = np.full(4000, 12)
    items, _ = sample_sequences(generator, lengths, np.random.default_rng(6))
    truth = predict(generator, items, lengths - 1)
    best = score_optimum(truth, items[:, 11], [5])
    histories = items[:, :11]
    order1 = np.zeros_like(truth)
    generator.tables["order1"].add_to(order1, generator.order1_keys[items[:, 10]], np.ones(4000))
    blind = replace(generator, taste_prior=np.array([0.98, 0.01, 0.01]))
    counts = np.stack([np.bincount(h, minlength=60) for h in histories]).astype(float)
    others = {
        "popularity": np.tile(generator.popularity, (4000, 1)),
        "order1": order1,
        "wrong prior": predict(blind, items, lengths - 1),
        "own counts": counts,
        "last three events": predict(generator, items[:, 8:11], np.full(4000, 3)),
        "random": np.random.default_rng(0).random(truth.shape),
    }
    for name, scores in others.items():
        top = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        expected = np.take_along_axis(truth, top, axis=1).sum(axis=1)
        assert (expected <= best["expected_hit_rate_at_5"] + 1e-12).all(), name
        assert expected.mean() < best["expected_hit_rate_at_5"].mean() - 1e-4, name


def test_ties_rank_worst_and_unknown_targets_miss() -> None:
    scores = np.array([[0.4, 0.4, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    metrics = score_optimum(scores, np.array([0, 1, -1]), [1, 2, 4])
    assert metrics["hit_rate_at_1"].tolist() == [0.0, 0.0, 0.0]
    assert metrics["hit_rate_at_2"].tolist() == [1.0, 1.0, 0.0]
    assert metrics["ndcg_at_2"] == pytest.approx([1 / np.log2(3), 1 / np.log2(3), 0.0])
    assert metrics["expected_hit_rate_at_2"] == pytest.approx([0.8, 0.7, 0.7])
    assert metrics["expected_hit_rate_at_4"] == pytest.approx([1.0, 1.0, 1.0])


def test_impossible_history_keeps_what_was_learnt(tiny: Generator) -> None:
    strict = replace(tiny, mixture=np.array([0, 1.0, 0, 0, 0, 0]))
    posterior, _ = taste_posterior(strict, np.array([[0, 1]]), np.array([2]))
    assert posterior[0] == pytest.approx([1.0, 0.0])
