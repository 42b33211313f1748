"""The chain from a log to packed arrays: hand-computed logs, then random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tasks.data.preparation import EmptyCorpusError, Preparation, prepare, rebuild_training
from tasks.data.recipe import Recipe
from tasks.data.splits import SplitError

TEMPORAL = Recipe(split="temporal", corpus="train", vocabulary="train", min_user_events=1)


def _sequences(prepared: Preparation, prefix: str = "train.") -> list[list[str]]:
    """Return sequences as raw item ids."""
    arrays = prepared.arrays
    pieces = np.split(arrays[f"{prefix}items"], arrays[f"{prefix}offsets"][1:-1])
    return [prepared.items.decode(piece) for piece in pieces]


def test_leave_one_out_hand_computed(toy_log: pl.DataFrame) -> None:
    prepared = prepare(toy_log, Recipe())
    assert prepared.users.raw_ids.to_list() == ["a", "b", "c"]
    assert prepared.items.raw_ids.to_list() == ["w", "x", "y", "z"]
    assert _sequences(prepared) == [["x", "y", "x"], ["z", "x"], ["y"]]
    assert prepared.arrays["train.rows"].tolist() == [1, 2, 3, 4, 0, 9]
    assert prepared.items.decode(prepared.arrays["val.targets"]) == ["z", "z", "y"]
    assert prepared.arrays["val.target_rows"].tolist() == [5, 7, 10]
    assert prepared.items.decode(prepared.arrays["test.targets"]) == ["y", "x", "w"]
    assert prepared.arrays["test.target_rows"].tolist() == [6, 8, 11]
    assert _sequences(prepared, "test.extra_") == [["z"], ["z"], ["y"]]
    assert prepared.arrays["val.extra_offsets"].tolist() == [0, 0, 0, 0]
    assert prepared.ties.last_two_tied_share == pytest.approx(1 / 3)


def test_leave_one_out_with_the_vocabulary_of_training(toy_log: pl.DataFrame) -> None:
    prepared = prepare(toy_log, Recipe(vocabulary="train"))
    assert prepared.items.raw_ids.to_list() == ["x", "y", "z"]
    assert prepared.arrays["test.targets"].tolist() == [2, 1, -1]


def test_temporal_hand_computed(toy_log: pl.DataFrame) -> None:
    recipe = replace(TEMPORAL, boundaries="time", starts=(25_000_000, 40_000_000))
    prepared = prepare(toy_log, recipe)
    # Before 25 s: a x10 y20, b z10 x20, c y5 y6 w7. Then a x30, b z30. From 40 s: a z y, b x.
    assert _sequences(prepared) == [["x", "y"], ["z", "x"], ["y", "y", "w"]]
    assert prepared.arrays["val.users"].tolist() == [0, 1]
    assert prepared.items.decode(prepared.arrays["val.targets"]) == ["x", "z"]
    assert prepared.items.decode(prepared.arrays["test.targets"]) == ["z", "x"]
    assert _sequences(prepared, "test.extra_") == [["x"], ["z"]]
    assert prepared.roles["after_target"] == 1
    last = prepare(toy_log, replace(recipe, temporal_target="last"))
    assert last.items.decode(last.arrays["test.targets"]) == ["y", "x"]
    assert _sequences(last, "test.extra_") == [["x", "z"], ["z"]]


def test_temporal_cold_users_and_items(make_log) -> None:
    log = make_log(
        [("a", "x", 1), ("a", "y", 2), ("a", "new", 3), ("a", "x", 5), ("a", "new", 6),
         ("z", "x", 3), ("z", "y", 4), ("z", "x", 6)]
    )  # fmt: skip
    recipe = replace(TEMPORAL, boundaries="time", starts=(3_000_000, 5_000_000))
    prepared = prepare(log, recipe)
    assert prepared.users.raw_ids.to_list() == ["a"]
    assert prepared.arrays["val.targets"].tolist() == [-1]
    assert prepared.arrays["test.extra_items"].tolist() == []
    assert (prepared.roles["cold_user"], prepared.roles["after_target"]) == (3, 0)
    assert prepared.roles["cold_item"] == 1
    kept = prepare(log, replace(recipe, cold_users="keep"))
    assert kept.users.raw_ids.to_list() == ["a", "z"]
    assert kept.arrays["train.offsets"].tolist() == [0, 2, 2]
    assert _sequences(kept, "test.extra_") == [[], ["x", "y"]]
    assert kept.arrays["val.users"].tolist() == [0]
    with pytest.raises(SplitError, match="0 validation and 1 test"):
        prepare(log, replace(recipe, cold_targets="drop"))


def test_a_training_only_k_core_ignores_held_out_events(make_log) -> None:
    log = make_log(
        [("a", "x", 1), ("a", "y", 2), ("b", "x", 1), ("b", "w", 2), ("a", "w", 8), ("b", "w", 8),
         ("a", "x", 9), ("b", "x", 9)]
    )  # fmt: skip
    recipe = replace(TEMPORAL, boundaries="time", starts=(8_000_000, 9_000_000), min_item_events=2)
    prepared = prepare(log, recipe)
    assert prepared.items.raw_ids.to_list() == ["x"]
    assert prepared.arrays["val.targets"].tolist() == [-1, -1]
    assert prepared.dropped["k_core"] == 2
    full = prepare(log, replace(recipe, corpus="full", vocabulary="full"))
    assert full.items.raw_ids.to_list() == ["w", "x"]


def test_the_rating_threshold_drops_and_counts(make_log) -> None:
    log = make_log([("a", item, item) for item in range(6)], ratings=[5, 1, 4, None, 4, 5])
    prepared = prepare(log, Recipe(rating_threshold=4.0))
    assert prepared.arrays["train.rows"].tolist() == [0, 2]
    assert prepared.dropped["rating"] == 2


def test_duplicates_are_dropped_when_asked(make_log) -> None:
    log = make_log([("a", "x", 1), ("a", "y", 1), ("a", "x", 1), ("a", "x", 2), ("a", "y", 3)])
    assert prepare(log, Recipe()).dropped["duplicates"] == 0
    prepared = prepare(log, Recipe(duplicates="drop"))
    assert prepared.dropped["duplicates"] == 1
    assert prepared.arrays["train.rows"].tolist() == [0, 1]


def test_equal_times_everywhere(make_log) -> None:
    log = make_log([(user, item, 7) for user in range(3) for item in (3, 1, 2)])
    prepared = prepare(log, Recipe())
    assert prepared.items.decode(prepared.arrays["test.targets"]) == ["2", "2", "2"]
    with pytest.raises(SplitError, match="validation first"):
        prepare(log, TEMPORAL)


def test_one_item(make_log) -> None:
    prepared = prepare(make_log([("a", "x", t) for t in range(4)]), Recipe())
    assert _sequences(prepared) == [["x", "x"]]
    assert prepared.arrays["test.targets"].tolist() == [1]


@pytest.mark.parametrize("recipe", [Recipe(), TEMPORAL])
def test_an_empty_log_is_refused(make_log, recipe: Recipe) -> None:
    with pytest.raises(EmptyCorpusError, match="no training event is left"):
        prepare(make_log([]), recipe)


def test_filters_that_leave_nothing_are_named(toy_log: pl.DataFrame) -> None:
    with pytest.raises(EmptyCorpusError, match="min_item_events 99"):
        prepare(toy_log, Recipe(min_item_events=99))
    with pytest.raises(EmptyCorpusError, match="min_user_events 99"):
        prepare(toy_log, replace(TEMPORAL, min_user_events=99, quantiles=(0.4, 0.7)))


def test_users_too_short_to_hold_out_train_only(make_log) -> None:
    log = make_log([("a", "x", 1), ("a", "y", 2), ("b", "x", 1), ("b", "y", 2), ("b", "x", 3)])
    prepared = prepare(log, Recipe(min_user_events=1))
    assert _sequences(prepared) == [["x", "y"], ["x"]]
    assert prepared.arrays["test.users"].tolist() == [1]
    with pytest.raises(SplitError, match="a user with 3 events"):
        prepare(log.head(2), Recipe(min_user_events=1))


def test_the_order_of_users_in_the_log_changes_nothing_but_row_numbers(make_log) -> None:
    events = [(user, (user * 7 + t * t) % 11, t) for user in range(6) for t in range(8)]
    first, second = prepare(make_log(events), Recipe()), prepare(make_log(events[::-1]), Recipe())
    for name in first.arrays:
        if not name.endswith("rows"):
            assert np.array_equal(first.arrays[name], second.arrays[name])


def _draw_log(seed: int, size: int, num_users: int, num_items: int, num_times: int) -> list[tuple]:
    generator = np.random.default_rng(seed)
    columns = [
        generator.integers(0, top, size).tolist() for top in (num_users, num_items, num_times)
    ]
    return list(zip(*columns, strict=True))


LOGS = st.builds(
    _draw_log,
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(20, 80),
    num_users=st.integers(2, 8),
    num_items=st.integers(1, 12),
    num_times=st.integers(5, 60),
)
RECIPES = st.builds(
    Recipe,
    duplicates=st.sampled_from(["keep", "drop"]),
    repeats=st.sampled_from(["keep", "drop_consecutive", "first"]),
    min_user_events=st.integers(1, 3),
    min_item_events=st.integers(1, 3),
    split=st.sampled_from(["leave_one_out", "temporal"]),
    corpus=st.sampled_from(["full", "train"]),
    vocabulary=st.sampled_from(["full", "train"]),
    quantiles=st.sampled_from([(0.5, 0.75), (0.8, 0.9), (0.3, 0.4)]),
    temporal_target=st.sampled_from(["first", "last"]),
    cold_targets=st.sampled_from(["miss", "drop"]),
    cold_users=st.sampled_from(["drop", "keep"]),
)


@given(LOGS, RECIPES)
@settings(max_examples=300, deadline=None)
def test_invariants_of_random_logs(make_log, events: list[tuple], recipe: Recipe) -> None:
    log = make_log(events)
    try:
        prepared = prepare(log, recipe)
    except (EmptyCorpusError, SplitError):
        # Hypothesis fails the test should most logs end here.
        reject()
    arrays = prepared.arrays
    # Every event is accounted for, once.
    assert sum(prepared.dropped.values()) + sum(prepared.roles.values()) == len(log)
    placed = [arrays["train.rows"], arrays["val.target_rows"], arrays["test.target_rows"]]
    rows = np.concatenate(placed)
    assert len(np.unique(rows)) == len(rows)
    assert [len(part) for part in placed] == [
        prepared.roles[name] for name in ("train", "val_target", "test_target")
    ]
    # Ids are contiguous, and training knows its items.
    listed = arrays["train.items"]
    assert listed.min() >= 1
    assert listed.max() <= len(prepared.items)
    if recipe.vocabulary == "train":
        assert set(listed.tolist()) == set(range(1, len(prepared.items) + 1))
    # Each history comes before its target and holds what the log held, known items only.
    for name in ("val", "test"):
        _check_examples(log, prepared, name)
    # Deleting held-out rows changes no byte.
    for name, array in rebuild_training(log, prepared, recipe).items():
        assert array.tobytes() == arrays[name].tobytes()


def _check_examples(log: pl.DataFrame, prepared: Preparation, name: str) -> None:
    arrays, offsets = prepared.arrays, prepared.arrays["train.offsets"]
    key = list(zip(log["timestamp"], log["row"], strict=True))
    extras = np.split(arrays[f"{name}.extra_rows"], arrays[f"{name}.extra_offsets"][1:-1])
    assert len(extras) == len(arrays[f"{name}.users"])
    assert (np.diff(arrays[f"{name}.users"]) > 0).all()
    for at, user in enumerate(arrays[f"{name}.users"]):
        train = arrays["train.rows"][offsets[user] : offsets[user + 1]]
        history = [*train, *extras[at]]
        target = arrays[f"{name}.target_rows"][at]
        raw_user = prepared.users.raw_ids[int(user)]
        assert history, "an example without a history"
        assert set(log["user_id"].gather([*history, target])) == {raw_user}
        ordered = [key[row] for row in [*history, target]]
        assert ordered == sorted(set(ordered))
        encoded = prepared.items.encode(log["item_id"].gather([target]))
        assert encoded[0] == arrays[f"{name}.targets"][at]
