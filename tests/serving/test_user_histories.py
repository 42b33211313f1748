from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.data.build import build_prepared
from tasks.data.integrity import PreparedDataError
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.serving.user_histories import UserHistories
from tests.serving.conftest import log_of


def test_every_event_of_every_user_in_order(project: Path, prepared: PreparedData) -> None:
    users = UserHistories(prepared)
    with (prepared.folder / "items.csv").open(newline="") as file:
        numbers = {row["raw_id"]: int(row["item_id"]) for row in csv.DictReader(file)}
    with (prepared.folder / "users.csv").open(newline="") as file:
        names = [row["raw_id"] for row in csv.DictReader(file)]
    assert len(names) == 60
    for name in names:
        history = users.of(name)
        assert history.items.tolist() == [numbers[item] for item in log_of(project, name)]
        assert (np.diff(history.times) >= 0).all()


def test_a_temporal_split_gives_all_events_up_to_the_last_target(tmp_path: Path) -> None:
    rows = [(user, f"i{step % 5}", 100 * step) for user in "ab" for step in range(20)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log = log.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    build_prepared(tmp_path, log, Recipe(split="temporal"))
    data = PreparedData.load(tmp_path)
    history = UserHistories(data).of("a")
    at = int(data.test.users[0])
    expected = int(data.train.lengths[at]) + int(data.test.extra.lengths[0]) + 1
    assert len(history.items) == expected
    assert len(set(history.times.tolist())) == expected


def test_unknown_users_are_told_apart(prepared: PreparedData) -> None:
    users = UserHistories(prepared)
    assert "nobody" not in users
    assert len(users.of_anyone("nobody").items) == 0
    with pytest.raises(KeyError):
        users.of("nobody")


def test_a_missing_list_of_users_is_named(prepared: PreparedData, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(PreparedDataError, match=r"users\.csv can't be used"):
        _ = "u" in UserHistories(replace(prepared, folder=tmp_path))
