from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from tasks.evaluation.comparison import TESTED_METRICS, compare
from tasks.evaluation.documents import comparison_document
from tasks.evaluation.metrics import ndcg


def make_ranks(seeds: int, users: int, spread: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, spread, (seeds, users))


@pytest.fixture(scope="module")
def table():
    good = make_ranks(1, 800, 30, 0)
    return compare(
        {"bad": make_ranks(1, 800, 200, 1), "good": good, "copy": good.copy()},
        num_samples=500,
    )


def test_rows_are_sorted_and_hold_means_inside_their_intervals(table) -> None:
    assert [row.model for row in table.rows] == ["good", "copy", "bad"]
    for row in table.rows:
        assert (row.num_seeds, row.num_users) == (1, 800)
        assert set(row.metrics) == {
            f"{name}_at_{k}" for name in ("hit_rate", "ndcg", "mrr") for k in (1, 5, 10, 20)
        }
        for estimate in row.metrics.values():
            assert estimate.low <= estimate.mean <= estimate.high
            assert estimate.seed_deviation is None


def test_means_are_those_of_the_ranks(table) -> None:
    expected = ndcg(make_ranks(1, 800, 200, 1), 5).mean()
    assert table.rows[2].metrics["ndcg_at_5"].mean == pytest.approx(expected)


def test_every_pair_is_tested_on_every_tested_metric(table) -> None:
    found = {(pair.metric, frozenset((pair.better, pair.worse))) for pair in table.pairs}
    pairs = [frozenset(pair) for pair in combinations(("good", "copy", "bad"), 2)]
    assert found == {(metric, pair) for metric in TESTED_METRICS for pair in pairs}


def test_real_differences_are_significant_and_copies_are_not(table) -> None:
    for pair in table.pairs:
        is_copy = {pair.better, pair.worse} == {"good", "copy"}
        assert pair.is_significant is not is_copy
        assert pair.p_holm >= pair.p_value
        assert pair.difference >= 0
        if is_copy:
            assert (pair.difference, pair.low, pair.high, pair.p_holm) == (0.0, 0.0, 0.0, 1.0)
        else:
            assert pair.low > 0


def test_seeds_are_summarised() -> None:
    ranks = make_ranks(4, 300, 40, 3)
    row = compare({"m": ranks}, num_samples=200).rows[0]
    estimate = row.metrics["ndcg_at_10"]
    assert row.num_seeds == 4
    assert estimate.seed_deviation == pytest.approx(ndcg(ranks, 10).mean(axis=1).std(ddof=1))


def test_difference_that_depends_on_the_seed_is_not_significant() -> None:
    # One lucky seed in two: users alone would call it significant, seeds do not.
    plain = np.full((2, 500), 50)
    lucky = plain.copy()
    lucky[0, ::2] = 1
    table = compare({"lucky": lucky, "plain": plain}, num_samples=500)
    pair = table.pairs[0]
    assert pair.p_holm < 0.001
    assert pair.low == 0.0
    assert not pair.is_significant


def test_holm_grows_with_the_number_of_models() -> None:
    models = {"a": make_ranks(1, 200, 60, 0), "b": make_ranks(1, 200, 75, 1)}
    few = compare(models, num_samples=100)
    more = {f"other{i}": make_ranks(1, 200, 75, 2 + i) for i in range(4)}
    many = compare({**models, **more}, num_samples=100)

    def find(table):
        return next(p for p in table.pairs if {p.better, p.worse} == {"a", "b"})

    assert find(few).p_value == find(few).p_holm == find(many).p_value
    assert find(many).p_holm > find(few).p_holm


def test_one_model_has_no_pairs_and_nobody_to_compare_raises() -> None:
    assert compare({"m": make_ranks(1, 10, 5, 0)}, num_samples=100).pairs == ()
    with pytest.raises(ValueError, match="at least 1"):
        compare({"m": np.empty((1, 0), np.int64)}, num_samples=100)


def test_document_is_plain_json_and_says_what_is_significant(table) -> None:
    document = comparison_document(
        {"as_ranked": table},
        headline_is_seen_filtered=False,
        bootstrap_samples=500,
        significance=0.05,
        seed=0,
        best_possible=None,
    )
    again = json.loads(json.dumps(document, allow_nan=False))
    (first,) = again["tables"]
    assert first["seen_filtered"] is False
    assert first["rows"][0]["metrics"]["ndcg_at_10"]["mean"] > 0
    told = [sentence for sentence in first["sentences"] if "good beats bad" in sentence]
    assert len(told) == 2
    assert all(sentence.endswith(": significant") for sentence in told)
    assert again["smallest_p_value"] == pytest.approx(1e-4, rel=1e-3)
