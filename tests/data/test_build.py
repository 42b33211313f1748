"""The prepared folder as a whole: contents, determinism, failure, real logs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.data import build
from tasks.data.build import build_prepared
from tasks.data.leakage import CheckResult, LeakageError
from tasks.data.preparation import Preparation, prepare
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.data.schema import QUARANTINE
from tasks.data.splits import SplitError


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_folder_holds_what_the_manifest_lists(toy: PreparedData) -> None:
    names = set(_contents(toy.folder))
    assert names == set(toy.manifest["files"]) | {"manifest.json"}
    assert len(names) == 4 + 2 * 8 + 4
    assert [path.name for path in toy.folder.parent.iterdir()] == ["prepared"]


def test_the_manifest_accounts_for_every_row(tmp_path: Path, toy_log: pl.DataFrame) -> None:
    unusable = pl.DataFrame(
        {"row": [12], "line": [14], "reason": ["user_id is missing"], "text": [",x,1"]},
        schema=QUARANTINE,
    )
    manifest = build_prepared(tmp_path / "p", toy_log, Recipe(), quarantine=unusable)
    assert manifest["counts"]["rows"] == 13 == sum(manifest["events"].values())
    assert manifest["quarantine_reasons"] == {"user_id is missing": 1}
    assert (tmp_path / "p" / "quarantine.csv").read_text() == (
        'row,line,reason,text\n12,14,user_id is missing,",x,1"\n'
    )


def test_the_manifest_holds_no_clock_and_no_absolute_path(toy: PreparedData) -> None:
    text = (toy.folder / "manifest.json").read_text()
    assert str(toy.folder) not in text
    assert str(Path.home()) not in text
    assert "settings" in toy.manifest
    assert not {"created", "date", "time"} & set(toy.manifest)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(split="temporal", quantiles=(0.5, 0.7))])
def test_the_same_log_gives_the_same_bytes(tmp_path: Path, toy_log, recipe: Recipe) -> None:
    build_prepared(tmp_path / "one", toy_log, recipe)
    build_prepared(tmp_path / "two", toy_log, recipe)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_another_process_with_other_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; import numpy as np, polars as pl; from pathlib import Path\n"
        "from tasks.data.build import build_prepared; from tasks.data.recipe import Recipe\n"
        "g = np.random.default_rng(0); n = 20_000\n"
        "ids = [pl.Series(g.integers(0, 200, n)).cast(pl.String) for _ in range(2)]\n"
        "log = pl.DataFrame({'user_id': ids[0], 'item_id': ids[1],\n"
        "    'timestamp': g.integers(0, 500, n) * 10**6, 'row': np.arange(n)})\n"
        "build_prepared(Path(sys.argv[1]), log, Recipe(min_item_events=90))\n"
    )
    for name, seed, threads in (("one", "1", "1"), ("two", "2", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads}
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_the_data_hash_follows_the_data_alone(tmp_path: Path, toy_log: pl.DataFrame) -> None:
    unusable = pl.DataFrame(
        {"row": [12], "line": [None], "reason": ["r"], "text": ["t"]}, schema=QUARANTINE
    )
    plain = build_prepared(tmp_path / "p", toy_log, Recipe())
    again = build_prepared(tmp_path / "p", toy_log, Recipe(), quarantine=unusable)
    other = build_prepared(tmp_path / "p", toy_log, Recipe(vocabulary="train"))
    assert plain["data_hash"] == again["data_hash"] != other["data_hash"]


def test_a_failed_check_leaves_the_old_folder(tmp_path, toy_log, monkeypatch) -> None:
    build_prepared(tmp_path / "p", toy_log, Recipe())
    before = _contents(tmp_path / "p")
    failed = CheckResult("rows_apart", True, False, "planted")
    monkeypatch.setattr(build, "run_checks", lambda *_: [failed])
    with pytest.raises(LeakageError, match="planted"):
        build_prepared(tmp_path / "p", toy_log, Recipe(vocabulary="train"))
    assert _contents(tmp_path / "p") == before
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def _leak_target(arrays: dict[str, np.ndarray]) -> None:
    arrays["train.rows"][0] = arrays["test.target_rows"][0]


def _reverse_time(arrays: dict[str, np.ndarray]) -> None:
    for name in ("items", "times", "rows"):
        arrays[f"train.{name}"][:3] = arrays[f"train.{name}"][:3][::-1].copy()


def _shift_items(arrays: dict[str, np.ndarray]) -> None:
    arrays["train.items"][:] = np.roll(arrays["train.items"], 1)


def _smuggle_popularity(arrays: dict[str, np.ndarray]) -> None:
    order = np.argsort(np.bincount(arrays["test.targets"], minlength=5)[1:], kind="stable")
    arrays["train.items"][:] = order[arrays["train.items"] - 1] + 1


@pytest.mark.parametrize(
    ("plant", "fires"),
    [
        (_leak_target, "rows_apart"),
        (_reverse_time, "target_after_history"),
        (_shift_items, "events_match_log"),
        (_smuggle_popularity, "deletion"),
    ],
)
def test_a_leak_in_the_chain_stops_the_stage(tmp_path, toy_log, monkeypatch, plant, fires) -> None:
    def leaky(frame: pl.DataFrame, recipe: Recipe) -> Preparation:
        preparation = prepare(frame, recipe)
        plant(preparation.arrays)
        return preparation

    monkeypatch.setattr(build, "prepare", leaky)
    with pytest.raises(LeakageError, match=f"- {fires}: "):
        build_prepared(tmp_path / "p", toy_log, Recipe())
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_split_leaves_nothing(tmp_path: Path, make_log) -> None:
    with pytest.raises(SplitError):
        build_prepared(tmp_path / "p", make_log([("a", "x", 1)] * 2), Recipe(min_user_events=1))
    assert list(tmp_path.iterdir()) == []


def test_warnings_are_kept_and_logged(tmp_path: Path, toy_log, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="tasks.data.build"):
        manifest = build_prepared(tmp_path / "p", toy_log, Recipe(rating_threshold=3.0))
    found = [warning["id"] for warning in manifest["warnings"]]
    assert found == ["ties_decide_targets", "rating_threshold_unused", "future_training"]
    assert [record.message.split(":")[0] for record in caplog.records] == found


def test_a_temporal_split_names_its_boundaries_and_cold_users(tmp_path: Path, make_log) -> None:
    log = make_log([("a", "x", t) for t in range(10)] + [("late", "x", 9)])
    recipe = Recipe(split="temporal", quantiles=(0.5, 0.8), vocabulary="train", corpus="train")
    manifest = build_prepared(tmp_path / "p", log, recipe)
    assert manifest["settings"]["starts"] == [5_000_000, 8_000_000]
    warning = next(w for w in manifest["warnings"] if w["id"] == "cold_users")
    assert warning["numbers"] == {"events": 1}
    assert "starts" not in build_prepared(tmp_path / "q", log, Recipe())["settings"]


def _read_movielens(shared_dir: Path) -> pl.DataFrame:
    frame = pl.read_csv(
        shared_dir / "data" / "ml-100k" / "ml-100k.inter",
        separator="\t",
        new_columns=["user_id", "item_id", "rating", "timestamp"],
        schema_overrides=[pl.String, pl.String, pl.Float64, pl.Int64],
    )
    return frame.with_columns(pl.col("timestamp") * 1_000_000, row=pl.int_range(pl.len()))


def test_movielens_100k_leave_one_out(tmp_path: Path, shared_dir: Path) -> None:
    manifest = build_prepared(tmp_path / "p", _read_movielens(shared_dir), Recipe())
    assert manifest["counts"] == {
        "rows": 100_000, "users": 943, "items": 1682, "train_events": 98_114, "train_users": 943,
        "val_examples": 943, "test_examples": 943,
    }  # fmt: skip
    assert manifest["ties"]["last_two_tied_share"] == pytest.approx(0.440, abs=5e-4)
    assert manifest["ties"]["tied_share"] == pytest.approx(0.758, abs=5e-4)
    later = next(c for c in manifest["leakage"] if c["id"] == "future_training")
    assert 0.41 < later["numbers"]["test_mean_share"] < 0.45
    assert "ties_follow_item_ids" not in {w["id"] for w in manifest["warnings"]}


def test_movielens_100k_sorted_by_item_is_reported(tmp_path: Path, shared_dir: Path) -> None:
    frame = _read_movielens(shared_dir)
    order = pl.col("item_id").cast(pl.Int64)
    frame = frame.sort(order).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    manifest = build_prepared(tmp_path / "p", frame, Recipe())
    assert {"ties_follow_item_ids", "order_follows_item_ids"} <= {
        warning["id"] for warning in manifest["warnings"]
    }


def test_movielens_100k_equals_a_slow_loop(tmp_path: Path, shared_dir: Path) -> None:
    frame = _read_movielens(shared_dir)
    build_prepared(tmp_path / "p", frame, Recipe())
    data = PreparedData.load(tmp_path / "p", verify=True)
    history: dict[str, list] = {}
    for user, item, when, row in zip(
        frame["user_id"], frame["item_id"], frame["timestamp"], frame["row"], strict=True
    ):
        history.setdefault(user, []).append((when, row, int(item)))
    item_ids, lengths, _ = data.histories(data.test, np.arange(943), max_len=1000)
    for at, user in enumerate(sorted(history, key=int)):
        *seen, target = sorted(history[user])
        # Every item has an event, so encoded ids equal MovieLens' own.
        assert item_ids[at, : lengths[at]].tolist() == [item for _, _, item in seen]
        assert data.test.targets[at] == target[2]
        assert data.test.target_rows[at] == target[1]
