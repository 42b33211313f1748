"""Negatives follow the declared distribution and the declared collision policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tasks.training.negatives import NegativeSampler, item_distribution

COUNTS = np.array([0, 81, 16, 1, 0, 4])


def sampler(probabilities=None, **options):
    probabilities = item_distribution(5, "uniform") if probabilities is None else probabilities
    return NegativeSampler(probabilities, **{"num_negatives": 4, **options})


@pytest.mark.parametrize(
    ("distribution", "exponent", "expected"),
    [
        ("uniform", 1.0, [0, 1, 1, 1, 1, 1]),
        ("popularity", 1.0, [0, 81, 16, 1, 0, 4]),
        ("popularity", 0.5, [0, 9, 4, 1, 0, 2]),
        ("popularity", 0.0, [0, 1, 1, 1, 0, 1]),
    ],
)
def test_distribution_by_hand(distribution, exponent, expected):
    found = item_distribution(5, distribution, COUNTS, exponent)
    np.testing.assert_allclose(found, np.array(expected) / np.sum(expected))


@pytest.mark.parametrize("scope", ["user", "global"])
@pytest.mark.parametrize("collisions", ["allow", "exclude_target", "exclude_positives"])
def test_draws_follow_the_distribution_whatever_the_policy(scope, collisions):
    probabilities = item_distribution(5, "popularity", COUNTS, 0.75)
    source = sampler(
        probabilities,
        num_negatives=50,
        scope=scope,
        collisions=collisions,
        items=np.array([1, 2, 1]),
        offsets=np.array([0, 2, 3]),
    )
    users = torch.arange(2)
    drawn = torch.cat([source.draw(users, seed).item_ids.flatten() for seed in range(200)])
    observed = np.bincount(drawn.numpy(), minlength=6)
    assert observed[probabilities == 0].sum() == 0
    is_possible = probabilities > 0
    test = stats.chisquare(observed[is_possible], probabilities[is_possible] * len(drawn))
    assert test.pvalue > 1e-4


def test_log_q_is_the_probability_of_each_draw():
    probabilities = item_distribution(5, "popularity", COUNTS, 0.75)
    drawn = sampler(probabilities).draw(torch.arange(3), seed=1)
    np.testing.assert_allclose(drawn.log_q.exp(), probabilities[drawn.item_ids], rtol=1e-6)


@pytest.mark.parametrize(("scope", "groups"), [("user", 3), ("global", 1)])
def test_shape_follows_the_scope(scope, groups):
    drawn = sampler(scope=scope).draw(torch.arange(3), seed=0)
    assert drawn.item_ids.shape == drawn.log_q.shape == (groups, 4)
    assert drawn.is_positive is None


def test_draws_depend_on_the_seed_alone():
    source = sampler(num_negatives=30)
    first = source.draw(torch.arange(2), seed=3).item_ids
    torch.rand(5)
    assert torch.equal(source.draw(torch.arange(2), seed=3).item_ids, first)
    assert not torch.equal(source.draw(torch.arange(2), seed=4).item_ids, first)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    sampler().draw(torch.arange(2), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("scope", ["user", "global"])
def test_positives_of_each_user_are_marked(scope):
    histories = [[1, 2, 2], [], [3, 4, 5, 1]]
    items = np.concatenate([np.array(h, dtype=np.int64) for h in histories])
    offsets = np.r_[0, np.cumsum([len(h) for h in histories])]
    source = sampler(
        num_negatives=20, scope=scope, collisions="exclude_positives", items=items, offsets=offsets
    )
    users = torch.tensor([2, 0, 1, 2])
    drawn = source.draw(users, seed=0)
    assert drawn.is_positive.shape == (4, 20)
    for row, user in enumerate(users.tolist()):
        ids = drawn.item_ids[row if scope == "user" else 0].tolist()
        assert drawn.is_positive[row].tolist() == [item in histories[user] for item in ids]


def test_first_and_last_item_are_drawn_and_nothing_outside():
    drawn = sampler(num_negatives=5000).draw(torch.arange(1), seed=0).item_ids
    assert (int(drawn.min()), int(drawn.max())) == (1, 5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="num_negatives is 0"):
        sampler(num_negatives=0)
    with pytest.raises(ValueError, match="without items and offsets"):
        sampler(collisions="exclude_positives")
    with pytest.raises(ValueError, match="counts has 3 entries; expected 6"):
        item_distribution(5, "popularity", np.ones(3))
    with pytest.raises(ValueError, match="no item has a training event"):
        item_distribution(5, "popularity", np.zeros(6))
