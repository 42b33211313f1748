"""Every check fires on a planted leak and stays quiet on repeats and equal times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.data.build import build_prepared, run_checks
from tasks.data.encoding import Vocabulary, read_vocabulary
from tasks.data.events import Events
from tasks.data.leakage import (
    CheckResult,
    LeakageError,
    check_declared_scope,
    check_deletion,
    check_log_identity,
    check_order,
    check_rows_apart,
    enforce,
)
from tasks.data.leakage_measures import check_duplicates, check_future_training
from tasks.data.preparation import prepare, rebuild_training
from tasks.data.prepared import PackedSequences, PreparedData
from tasks.data.recipe import Recipe

USERS = Vocabulary(pl.Series(["a", "b", "c"]), first_id=0)


def _changed(packed: PackedSequences, **values: np.ndarray) -> PackedSequences:
    return replace(packed, **{name: np.asarray(value) for name, value in values.items()})


def _set(array: np.ndarray, at: int, value: int) -> np.ndarray:
    copy = np.array(array)
    copy[at] = value
    return copy


def _encoded_log(data: PreparedData, log: pl.DataFrame) -> Events:
    items = read_vocabulary(data.folder / "items.csv")
    return Events(
        USERS.encode(log["user_id"]),
        items.encode(log["item_id"]),
        log["timestamp"].to_numpy(),
        log["row"].to_numpy(),
    )


def _assert_stops(result: CheckResult, message: str) -> None:
    assert result.exact
    assert not result.passed
    with pytest.raises(LeakageError, match=message):
        enforce([result])


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(repeats="first", min_user_events=1),
        Recipe(vocabulary="train"),
        Recipe(split="temporal", quantiles=(0.5, 0.7), min_user_events=1, cold_users="keep"),
        Recipe(split="temporal", quantiles=(0.5, 0.7), corpus="train", vocabulary="train",
               min_user_events=1),
    ],
)  # fmt: skip
def test_repeats_and_equal_times_are_no_leak(tmp_path: Path, toy_log, recipe: Recipe) -> None:
    manifest = build_prepared(tmp_path / "prepared", toy_log, recipe)
    assert len(manifest["leakage"]) == 7
    assert all(check["passed"] for check in manifest["leakage"] if check["exact"])


def test_a_target_copied_into_training_is_a_leak(toy: PreparedData) -> None:
    leaked = replace(toy, train=_changed(toy.train, rows=_set(toy.train.rows, 2, 6)))
    _assert_stops(check_rows_apart(leaked, USERS), "target rows are training rows.*user 'a', row 6")


def test_a_training_row_used_twice_is_a_leak(toy: PreparedData) -> None:
    leaked = replace(toy, train=_changed(toy.train, rows=_set(toy.train.rows, 4, 1)))
    _assert_stops(check_rows_apart(leaked, USERS), "training rows occur twice.*user 'a', row 1")


def test_a_target_in_its_own_history_is_a_leak(toy: PreparedData) -> None:
    extra = _changed(toy.test.extra, rows=_set(toy.test.extra.rows, 1, 8))
    leaked = replace(toy, test=replace(toy.test, extra=extra))
    _assert_stops(check_rows_apart(leaked, USERS), "test history.*user 'b', row 8")


def test_a_test_event_in_the_validation_history_is_a_leak(toy: PreparedData) -> None:
    extra = PackedSequences(
        *(np.array([value]) for value in (2, 40_000_000, 8)), np.array([0, 0, 1, 1])
    )
    leaked = replace(toy, val=replace(toy.val, extra=extra))
    _assert_stops(check_rows_apart(leaked, USERS), "validation history.*user 'b', row 8")


def test_one_event_as_target_of_both_splits_is_a_leak(toy: PreparedData) -> None:
    test = replace(toy.test, target_rows=_set(toy.test.target_rows, 2, 10))
    _assert_stops(check_rows_apart(replace(toy, test=test), USERS), "target rows occur twice")


def test_held_out_history_that_is_training_is_a_leak(toy: PreparedData) -> None:
    extra = _changed(toy.test.extra, rows=_set(toy.test.extra.rows, 0, 3))
    leaked = replace(toy, test=replace(toy.test, extra=extra))
    _assert_stops(check_rows_apart(leaked, USERS), "test history rows are training rows")


def test_two_examples_of_one_user_are_refused(toy: PreparedData) -> None:
    test = replace(toy.test, users=np.array([0, 1, 1]))
    _assert_stops(check_rows_apart(replace(toy, test=test), USERS), "user 'b' has two test")


def test_shuffled_time_is_found(toy: PreparedData) -> None:
    order = np.array([0, 2, 1, 3, 4, 5])
    train = _changed(toy.train, times=toy.train.times[order], rows=toy.train.rows[order])
    _assert_stops(check_order(replace(toy, train=train), USERS), "training of user 'a'.*at row 2")


def test_tied_events_out_of_row_order_are_found(toy: PreparedData) -> None:
    times = np.array(toy.train.times)
    times[:3] = 7
    train = _changed(toy.train, times=times, rows=_set(toy.train.rows, 0, 30))
    _assert_stops(check_order(replace(toy, train=train), USERS), "training of user 'a'.*at row 2")


def test_a_target_before_its_history_is_found(toy: PreparedData) -> None:
    early = replace(toy.val, target_times=_set(toy.val.target_times, 1, 19_000_000))
    _assert_stops(
        check_order(replace(toy, val=early), USERS), "val targets are not after training.*'b'"
    )
    tied = replace(toy.test, target_rows=_set(toy.test.target_rows, 0, 4))
    _assert_stops(
        check_order(replace(toy, test=tied), USERS), "test targets are not after their history"
    )


def test_held_out_history_before_training_ends_is_found(toy: PreparedData) -> None:
    extra = _changed(toy.test.extra, times=_set(toy.test.extra.times, 1, 15_000_000))
    leaked = replace(toy, test=replace(toy.test, extra=extra))
    _assert_stops(check_order(leaked, USERS), "begin within training")


@pytest.mark.parametrize("field", ["items", "times", "rows"])
def test_an_event_that_differs_from_the_log_is_found(toy, toy_log, field: str) -> None:
    log = _encoded_log(toy, toy_log)
    assert check_log_identity(toy, log, USERS).passed
    values = _set(getattr(toy.train, field), 3, 999 if field == "rows" else 3)
    leaked = replace(toy, train=_changed(toy.train, **{field: values}))
    _assert_stops(check_log_identity(leaked, log, USERS), "1 events differ.*user 'b'")


def test_mixed_users_are_found(toy: PreparedData, toy_log: pl.DataFrame) -> None:
    train = _changed(toy.train, offsets=np.array([0, 2, 5, 6]))
    result = check_log_identity(replace(toy, train=train), _encoded_log(toy, toy_log), USERS)
    _assert_stops(result, "user 'b', row 3")


def test_a_target_that_differs_from_the_log_is_found(toy, toy_log: pl.DataFrame) -> None:
    test = replace(toy.test, targets=_set(toy.test.targets, 0, 1))
    result = check_log_identity(replace(toy, test=test), _encoded_log(toy, toy_log), USERS)
    _assert_stops(result, "user 'a', row 6")


def test_a_vocabulary_fitted_on_held_out_rows_is_found(toy: PreparedData) -> None:
    items = read_vocabulary(toy.folder / "items.csv")
    assert check_declared_scope(toy, items, Recipe()).passed
    result = check_declared_scope(toy, items, Recipe(vocabulary="train"))
    _assert_stops(result, "1 of its items have no training event; the first: 'w'")


def test_a_k_core_counted_on_held_out_rows_is_found(toy: PreparedData) -> None:
    items = read_vocabulary(toy.folder / "items.csv")
    recipe = Recipe(corpus="train", min_user_events=2, min_item_events=1)
    _assert_stops(check_declared_scope(toy, items, recipe), "1 users and 0 items")
    assert check_declared_scope(toy, items, replace(recipe, min_user_events=1)).passed


@pytest.mark.parametrize("scope", ["full", "train"])
def test_the_deletion_test_sees_a_byte_computed_from_held_out_rows(toy_log, toy, scope) -> None:
    recipe = Recipe(vocabulary=scope, min_user_events=1, corpus=scope)
    prepared = prepare(toy_log, recipe)
    rebuilt = rebuild_training(toy_log, prepared, recipe)
    assert set(rebuilt) == {f"train.{name}" for name in ("items", "times", "rows", "offsets")}
    hashes = {f"{name}.npy": "" for name in rebuilt}
    _assert_stops(check_deletion(hashes, rebuilt), "train.items.npy, train.times.npy")


def test_the_deletion_test_sees_ids_numbered_by_the_popularity_of_all_rows(toy, toy_log) -> None:
    # Ids by popularity over the whole log, though the vocabulary is declared to be training's.
    recipe = Recipe(vocabulary="train")
    prepared = prepare(toy_log, recipe)
    renumbered = np.array([0, 3, 1, 2], dtype=np.int32)[prepared.arrays["train.items"]]
    build_prepared(toy.folder, toy_log, recipe)
    np.save(toy.folder / "train.items.npy", renumbered)
    from tasks.data.manifest import hash_files

    result = check_deletion(hash_files(toy.folder), rebuild_training(toy_log, prepared, recipe))
    assert result.numbers == {"files": 4, "changed": 1}
    _assert_stops(result, r"train\.items\.npy change when held-out rows are deleted")


def test_run_checks_passes_on_the_prepared_toy(toy: PreparedData, toy_log: pl.DataFrame) -> None:
    recipe = Recipe()
    results = run_checks(toy, toy_log, prepare(toy_log, recipe), recipe)
    enforce(results)
    assert {result.id for result in results if result.exact} == {
        "rows_apart", "target_after_history", "events_match_log", "declared_scope", "deletion",
    }  # fmt: skip


def test_future_training_is_measured_under_leave_one_out(toy: PreparedData) -> None:
    # Training times: a 10 20 30, b 10 20, c 5. Test targets at 40 (a), 40 (b) and 7 (c).
    result = check_future_training(toy, USERS, "leave_one_out")
    assert not result.exact
    assert not result.passed
    assert result.numbers["test_mean_share"] == pytest.approx((0 + 0 + 5 / 6) / 3)
    assert result.numbers["test_max_share"] == pytest.approx(5 / 6)
    assert "27.8%" in result.message


def test_future_training_stops_a_temporal_split(toy: PreparedData) -> None:
    result = check_future_training(toy, USERS, "temporal")
    _assert_stops(result, "5 training events are later than the val target of user 'c', row 10")


def test_training_at_the_time_of_a_target_is_not_later(make_log, tmp_path: Path) -> None:
    log = make_log([("a", "x", 1), ("a", "y", 2), ("a", "z", 3)] + [("b", "x", 1)] * 3)
    build_prepared(tmp_path / "prepared", log, Recipe())
    data = PreparedData.load(tmp_path / "prepared")
    assert check_future_training(data, USERS, "leave_one_out").numbers["test_max_share"] == 0.0


def test_copies_of_an_event_across_the_split_are_counted(make_log, tmp_path: Path) -> None:
    # b repeats x at another time, and buys another item at the time of its target: no copies.
    log = make_log(
        [("a", "x", 1), ("a", "y", 9), ("a", "w", 9), ("a", "y", 9),
         ("b", "x", 1), ("b", "y", 9), ("b", "w", 9), ("b", "x", 9)]
    )  # fmt: skip
    build_prepared(tmp_path / "prepared", log, Recipe())
    data = PreparedData.load(tmp_path / "prepared")
    result = check_duplicates(data, USERS)
    assert (result.exact, result.passed) == (False, False)
    assert result.numbers == {"val_targets_copied": 0, "test_targets_copied": 1}
    assert "user 'a', row 3" in result.message
    build_prepared(tmp_path / "prepared", log, Recipe(duplicates="drop"))
    assert check_duplicates(PreparedData.load(tmp_path / "prepared"), USERS).passed


def test_a_copy_in_the_held_out_history_is_counted(make_log, tmp_path: Path) -> None:
    log = make_log([("a", "x", 1), ("a", "y", 9), ("a", "y", 9)])
    build_prepared(tmp_path / "prepared", log, Recipe())
    result = check_duplicates(PreparedData.load(tmp_path / "prepared"), USERS)
    assert result.numbers["test_targets_copied"] == 1


def test_enforce_lists_every_failed_exact_check_and_ignores_measurements() -> None:
    measured = CheckResult("m", exact=False, passed=False, message="only a number")
    enforce([measured, CheckResult("fine", True, True, "")])
    with pytest.raises(LeakageError, match=r"(?s)2 leakage checks failed.*first.*second"):
        enforce([measured, *(CheckResult(n, True, False, n) for n in ("first", "second"))])
