from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.comparison import compare
from tasks.evaluation.curves import CURVE_COLUMNS, curve_rows
from tasks.evaluation.evaluate import RankedSplit
from tasks.evaluation.results import (
    Examples,
    ModelRanks,
    check_cutoffs,
    group_rows,
    mean_metrics_by_model,
    per_user_columns,
    stack_seeds,
    summary_rows,
)

COUNTS = np.array([0, 5, 3, 2])
VIEWS = ("as_ranked", "seen_filtered")


def ranked(ranks: list[int], filtered: list[int] | None = None) -> RankedSplit:
    lists = np.ones((len(ranks), 1), np.int64)
    return RankedSplit(
        ranks=np.array(ranks),
        seen_filtered_ranks=None if filtered is None else np.array(filtered),
        top_items=lists,
        seen_filtered_top_items=None if filtered is None else 2 * lists,
    )


@pytest.fixture
def results() -> list[ModelRanks]:
    return [
        ModelRanks("gru", 0, "test", ranked([1, 30], [1, 3])),
        ModelRanks("gru", 1, "test", ranked([3, 30], [1, 3])),
        ModelRanks("gru", 0, "val", ranked([30, 30], [30, 30])),
        ModelRanks("popularity", 0, "test", ranked([30, 30], [30, 1])),
    ]


def test_seeds_are_stacked_by_model_in_order(results: list[ModelRanks]) -> None:
    stacked = stack_seeds(results, "test", "as_ranked")
    assert {model: ranks.tolist() for model, ranks in stacked.items()} == {
        "gru": [[1, 30], [3, 30]],
        "popularity": [[30, 30]],
    }
    assert stack_seeds(results, "test", "seen_filtered")["gru"].tolist() == [[1, 3], [1, 3]]


def test_second_view_that_was_not_made_raises() -> None:
    only = ModelRanks("gru", 0, "test", ranked([1]))
    with pytest.raises(ValueError, match="filter_seen='both'"):
        only.view("seen_filtered")


def test_means_are_over_users_and_seeds_and_named_by_split(results: list[ModelRanks]) -> None:
    means = mean_metrics_by_model(results, VIEWS, (10,), COUNTS)
    assert means["gru"]["test/ndcg_at_10"] == pytest.approx((1 + 0.5) / 4)
    assert means["gru"]["test_seen_filtered/ndcg_at_10"] == pytest.approx((1 + 0.5) / 2)
    assert means["gru"]["val/hit_rate_at_10"] == 0.0
    assert means["popularity"]["test_seen_filtered/mrr_at_10"] == 0.5
    assert means["gru"]["test/coverage_at_10"] == pytest.approx(1 / 3)
    assert means["gru"]["test/popularity_at_10"] == 5.0
    assert means["gru"]["test_seen_filtered/popularity_at_10"] == 3.0
    assert "val/ndcg_at_10" not in means["popularity"]


def test_group_rows_split_users(results: list[ModelRanks]) -> None:
    rows = group_rows(results, "test", VIEWS, np.array([2, 9]), (0, 5))
    found = {(r["model"], r["ranking"], r["group"]): r["ndcg_at_10"] for r in rows}
    assert len(rows) == 8
    assert found["gru", "as_ranked", "0-4"] == pytest.approx(0.75)
    assert found["gru", "as_ranked", "5+"] == 0.0
    assert found["popularity", "seen_filtered", "5+"] == 1.0


def test_per_user_columns_name_every_row(results: list[ModelRanks]) -> None:
    about = Examples(*(np.array([base, base + 1]) for base in (10, 20, 30, 40)))
    columns = per_user_columns(results, {"test": about, "val": about})
    assert {len(column) for column in columns.values()} == {8}
    assert columns["rank"].tolist() == [1, 30, 3, 30, 30, 30, 30, 30]
    assert columns["rank_seen_filtered"].tolist() == [1, 3, 1, 3, 30, 30, 30, 1]
    assert columns["user"].tolist() == [10, 11] * 4
    assert columns["target_time"][:2].tolist() == [20, 21]
    assert columns["history_length"][:2].tolist() == [30, 31]
    assert columns["target_count"][:2].tolist() == [40, 41]
    assert columns["seed"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_summary_says_what_each_model_beats() -> None:
    generator = np.random.default_rng(0)
    ranks = {"bad": generator.integers(1, 300, (1, 400)), "good": np.full((1, 400), 2)}
    results = [
        ModelRanks(model, 0, "test", ranked(rows[0].tolist())) for model, rows in ranks.items()
    ]
    means = mean_metrics_by_model(results, ("as_ranked",), (10,), COUNTS)
    table = compare(ranks, cutoffs=(10,), num_samples=200)
    good, bad = summary_rows(table, means)
    assert (good["model"], good["significantly_beats"]) == ("good", "bad")
    assert (bad["model"], bad["significantly_beats"]) == ("bad", "")
    assert good["ndcg_at_10"] == pytest.approx(1 / np.log2(3))
    assert bad["ndcg_at_10_low"] < bad["ndcg_at_10"] < bad["ndcg_at_10_high"]
    assert "seen_filtered_ndcg_at_10" not in good


def test_cutoff_above_the_catalogue_is_refused_only_where_it_would_flatter() -> None:
    check_cutoffs((1, 20), np.array([1, 2]), num_items=5)
    check_cutoffs((1, 5), np.array([1, -1]), num_items=5)
    with pytest.raises(ValueError, match="holds 20, but the catalogue has 5 items"):
        check_cutoffs((1, 20), np.array([1, -1]), num_items=5)


def test_curves_keep_every_epoch_and_leave_gaps_empty() -> None:
    text = '{"epoch": 1, "step": 9, "train/loss": 7.5, "other": 1}\n\n{"epoch": 2}\n'
    rows = curve_rows("gru", 3, text)
    assert [tuple(row) for row in rows] == [CURVE_COLUMNS, CURVE_COLUMNS]
    assert rows[0] == {
        "model": "gru",
        "seed": 3,
        "epoch": 1,
        "step": 9,
        "train_loss": 7.5,
        "val_ndcg_at_10": None,
        "val_hit_rate_at_10": None,
    }
    assert rows[1]["epoch"] == 2
    assert curve_rows("gru", 0, "") == []


def test_lists_without_any_item_have_no_popularity() -> None:
    """Every user has seen every item of a small catalogue, and seen ones are left out."""
    empty = RankedSplit(
        ranks=np.array([1, 2]),
        seen_filtered_ranks=np.array([1, 1]),
        top_items=np.ones((2, 1), np.int64),
        seen_filtered_top_items=np.zeros((2, 1), np.int64),
    )
    found = mean_metrics_by_model([ModelRanks("gru", 0, "test", empty)], VIEWS, (10,), COUNTS)
    filtered = {name for name in found["gru"] if name.startswith("test_seen_filtered/")}
    assert "test/popularity_at_10" in found["gru"]
    assert found["gru"]["test_seen_filtered/coverage_at_10"] == 0.0
    assert not any("popularity" in name for name in filtered)
    alone = RankedSplit(empty.seen_filtered_ranks, None, empty.seen_filtered_top_items, None)
    results = [ModelRanks("gru", 0, "test", alone)]
    means = mean_metrics_by_model(results, ("as_ranked",), (10,), COUNTS)
    [row] = summary_rows(compare(stack_seeds(results, "test", "as_ranked")), means)
    assert "coverage_at_10" in row
    assert "popularity_at_10" not in row
