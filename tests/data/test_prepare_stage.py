from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tasks.data import fetch_stage, prepare_stage
from tasks.data.prepared import PreparedData
from tasks.data.readers import DataError
from tasks.data.recipe import Recipe
from tasks.data.schema import QuarantineError
from tasks.settings import Settings, settings_from_dict


def _settings(**data: object) -> Settings:
    return settings_from_dict({"data": {"source": "file", "path": "log.csv", **data}})


def _write_log(workspace: Path, lines: list[str]) -> None:
    text = "user_id,item_id,timestamp\n" + "\n".join(lines) + "\n"
    (workspace / "log.csv").write_text(text, encoding="utf-8")


LINES = [
    f"u{user},i{(user * 3 + step) % 7},{1_600_000_000 + step}"
    for user in range(5)
    for step in range(6)
]


def _prepare(workspace: Path, settings: Settings) -> dict:
    fetch_stage.run(settings, workspace)
    return prepare_stage.run(settings, workspace)


def test_the_stage_prepares_a_file_of_the_user(tmp_path: Path) -> None:
    _write_log(tmp_path, LINES)
    result = _prepare(tmp_path, _settings())
    assert result | {"data_hash": ""} == {
        "users": 5, "items": 7, "train_events": 20, "val_examples": 5, "test_examples": 5,
        "quarantined": 0, "warnings": 0, "data_hash": "",
    }  # fmt: skip
    data = PreparedData.load(tmp_path / "data" / "prepared", verify=True)
    assert data.manifest["data_hash"] == result["data_hash"]
    assert data.manifest["source"]["read"]["time_unit"] == "s"
    assert str(tmp_path) not in (tmp_path / "data/prepared/manifest.json").read_text()


def test_unusable_rows_are_kept_aside_and_counted(tmp_path: Path) -> None:
    _write_log(tmp_path, [*LINES, ",i1,1600000000", "u1,i1,yesterday", "u1,i2,1600000009"])
    result = _prepare(tmp_path, _settings(max_quarantine_share=0.1))
    assert (result["quarantined"], result["train_events"]) == (2, 21)
    listed = pl.read_csv(tmp_path / "data/prepared/quarantine.csv")
    assert listed["row"].to_list() == [30, 31]
    assert listed["text"].to_list() == [",i1,1600000000", "u1,i1,yesterday"]
    manifest = PreparedData.load(tmp_path / "data/prepared").manifest
    assert manifest["counts"]["rows"] == sum(manifest["events"].values()) == 33


def test_too_many_unusable_rows_stop_the_stage(tmp_path: Path) -> None:
    _write_log(tmp_path, [*LINES, ",i1,1600000000"])
    with pytest.raises(QuarantineError, match=r"1 of 31 rows.*\.assay/quarantine\.csv"):
        _prepare(tmp_path, _settings())
    assert not (tmp_path / "data" / "prepared").exists()
    assert pl.read_csv(tmp_path / ".assay/quarantine.csv")["row"].to_list() == [30]
    _prepare(tmp_path, _settings(max_quarantine_share=0.1))
    assert not (tmp_path / ".assay/quarantine.csv").exists()


def test_without_a_raw_log_the_stage_names_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m tasks fetch"):
        prepare_stage.run(_settings(), tmp_path)


def test_the_defaults_of_the_settings_are_those_of_the_recipe() -> None:
    assert prepare_stage.choose_recipe(Settings().data) == Recipe()


def test_auto_follows_the_split() -> None:
    temporal = prepare_stage.choose_recipe(_settings(split="temporal").data)
    assert (temporal.corpus, temporal.vocabulary) == ("train", "train")
    stated = prepare_stage.choose_recipe(_settings(split="temporal", corpus="full").data)
    assert (stated.corpus, stated.vocabulary) == ("full", "train")


def test_every_choice_reaches_the_recipe() -> None:
    stated = {
        "rating_threshold": 4.0, "duplicates": "drop", "repeats": "first", "min_user_events": 5,
        "min_item_events": 6, "split": "temporal", "corpus": "full", "vocabulary": "full",
        "boundaries": "time", "temporal_target": "last", "cold_targets": "drop",
        "cold_users": "keep",
    }  # fmt: skip
    starts = {"val_start": "2020-01-01", "test_start": "2020-02-01T00:00:00+01:00"}
    shares = {"val_quantile": 0.5, "test_quantile": 0.6}
    recipe = prepare_stage.choose_recipe(_settings(**stated, **starts, **shares).data)
    assert recipe == Recipe(
        **stated, quantiles=(0.5, 0.6), starts=(1_577_836_800_000_000, 1_580_511_600_000_000)
    )


def test_boundaries_in_time(tmp_path: Path) -> None:
    _write_log(tmp_path, LINES)
    settings = _settings(
        split="temporal", boundaries="time", val_start="2020-09-13T12:26:44Z",
        test_start="2020-09-13T12:26:45Z",
    )  # fmt: skip
    result = _prepare(tmp_path, settings)
    assert (result["train_events"], result["val_examples"], result["test_examples"]) == (20, 5, 5)


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_the_synthetic_log_is_prepared(tmp_path: Path, split: str) -> None:
    small = {"num_users": 400, "num_items": 20, "min_length": 5, "max_length": 40}
    settings = settings_from_dict(
        {"data": {"source": "synthetic", "split": split, "synthetic": small}}
    )
    result = _prepare(tmp_path, settings)
    data = PreparedData.load(tmp_path / "data" / "prepared", verify=True)
    assert result["test_examples"] == len(data.test) > 0
    assert all(check["passed"] for check in data.manifest["leakage"] if check["exact"])


def test_a_killed_stage_leaves_no_half_written_folder(tmp_path: Path) -> None:
    _write_log(tmp_path, LINES)
    fetch_stage.run(_settings(), tmp_path)
    program = (
        "import time; from pathlib import Path; from tasks.data import build, prepare_stage\n"
        "from tasks.settings import settings_from_dict\n"
        "build.run_checks = lambda *_: time.sleep(60)\n"
        "settings = settings_from_dict({'data': {'source': 'file', 'path': 'log.csv'}})\n"
        f"prepare_stage.run(settings, Path({str(tmp_path)!r}))\n"
    )
    stage = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (tmp_path / "data" / ".prepared.partial" / "manifest.json").exists():
        assert time.monotonic() < deadline, "the stage did not write"
        time.sleep(0.02)
    stage.kill()
    stage.wait()
    assert not (tmp_path / "data" / "prepared").exists()
    prepare_stage.run(_settings(), tmp_path)
    data = PreparedData.load(tmp_path / "data" / "prepared", verify=True)
    assert data.train.lengths.tolist() == [4] * 5
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["prepared", "raw"]
