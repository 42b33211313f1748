from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tasks.evaluation import resampling
from tasks.evaluation.resampling import (
    bootstrap_means,
    holm,
    percentile_interval,
    sign_flip_p_values,
)


def test_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).exponential(size=(1, 2000))
    resampled = bootstrap_means({"x": values}, num_samples=4000, seed=1)["x"]
    interval = percentile_interval(values.mean(), resampled)
    error = values.std(ddof=1) / 2000**0.5
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        values = (generator.random((1, 300)) < 0.2).astype(float)
        resampled = bootstrap_means({"x": values}, num_samples=400, seed=trial)["x"]
        low, high = percentile_interval(values.mean(), resampled)[1:]
        hits += low <= 0.2 <= high
    assert 180 <= hits <= 199  # 190 expected, deviation 3.1


def test_constant_values_have_no_spread() -> None:
    resampled = bootstrap_means({"x": np.full((1, 50), 0.3)}, num_samples=100, seed=0)["x"]
    assert np.allclose(resampled, 0.3)


def test_same_users_are_drawn_for_all_quantities() -> None:
    values = np.random.default_rng(0).random((1, 100))
    means = bootstrap_means({"a": values, "b": values + 1.0}, num_samples=200, seed=0)
    np.testing.assert_allclose(means["b"] - means["a"], 1.0)


def test_result_does_not_depend_on_company_or_block_size(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((3, 40)), generator.random((2, 40))
    alone = bootstrap_means({"a": a}, num_samples=150, seed=9)["a"]
    np.testing.assert_allclose(
        bootstrap_means({"b": b, "a": a}, num_samples=150, seed=9)["a"], alone, rtol=1e-12
    )
    monkeypatch.setattr(resampling, "BLOCK_CELLS", 40 * 7)
    np.testing.assert_allclose(
        bootstrap_means({"a": a}, num_samples=150, seed=9)["a"], alone, rtol=1e-12
    )
    assert not np.allclose(bootstrap_means({"a": a}, num_samples=150, seed=8)["a"], alone)


def test_seeds_that_differ_widen_the_interval() -> None:
    users = np.random.default_rng(0).random(400)
    agreeing = np.stack([users, users, users])
    differing = np.stack([users - 0.2, users, users + 0.2])
    means = bootstrap_means({"a": agreeing, "d": differing}, num_samples=2000, seed=0)
    assert means["d"].std() > 4 * means["a"].std()
    # Drawing 3 of 3 seeds: variance over seeds / 3, on top of the variance over users.
    expected = (means["a"].var() + differing.mean(axis=1).var() / 3) ** 0.5
    assert means["d"].std() == pytest.approx(expected, rel=0.05)


def test_different_users_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        bootstrap_means({"a": np.ones((1, 3)), "b": np.ones((1, 4))}, num_samples=10, seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        bootstrap_means({"a": np.ones((1, 0))}, num_samples=10, seed=0)


def exact_p_value(differences: np.ndarray) -> float:
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return float(np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12))


@pytest.mark.parametrize("seed", range(4))
def test_p_value_agrees_with_all_sign_assignments(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.random(11) + 0.15, generator.random(11)
    found = sign_flip_p_values({"a": a, "b": b}, [("a", "b")], seed=seed, num_flips=20_000)[0]
    exact = exact_p_value(a - b)
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5 + 1e-4)


def test_p_value_agrees_with_scipy_on_hits_with_many_equal_differences() -> None:
    generator = np.random.default_rng(3)
    a = (generator.random(300) < 0.30).astype(float)
    b = (generator.random(300) < 0.22).astype(float)
    found = sign_flip_p_values({"a": a, "b": b}, [("a", "b")], seed=0)[0]
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    # On 0/1 values the sign-flip test is McNemar's exact test.
    exact = stats.binomtest(only_a, only_a + only_b).pvalue
    assert found == pytest.approx(exact, abs=0.02)


def test_p_value_has_its_floor_and_equal_models_give_one() -> None:
    generator = np.random.default_rng(0)
    a = generator.random(500)
    values = {"a": a, "better": a + 0.5, "same": a.copy()}
    p = sign_flip_p_values(values, [("better", "a"), ("a", "same")], seed=0, num_flips=999)
    assert p.tolist() == [1 / 1000, 1.0]


def test_p_values_are_uniform_where_nothing_differs() -> None:
    generator = np.random.default_rng(1)
    values = {f"m{i}": generator.random(80) for i in range(40)}
    pairs = [(f"m{i}", f"m{i + 1}") for i in range(0, 40, 2)] * 1
    p = sign_flip_p_values(values, pairs, seed=2, num_flips=2000)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_order_of_a_pair_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    values = {"a": generator.random(60), "b": generator.random(60)}
    p = sign_flip_p_values(values, [("a", "b"), ("b", "a")], seed=0)
    assert p[0] == p[1]
    assert sign_flip_p_values(values, [], seed=0).shape == (0,)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.04, 0.001], [0.04, 0.002]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(holm(np.array(p_values)), expected)
