"""The stage `fetch` and the folder it leaves."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tasks.data import fetch_stage
from tasks.data.fetch import ChecksumError, FetchedLog, SourceUnreachableError
from tasks.data.raw_log import read_raw_log, read_record
from tasks.data.readers import DataError
from tasks.settings import Settings

CSV = b"buyer,sku,when\nu1,i1,1500000000\nu2,i2,1500000001\n"


def settings(**data: object) -> Settings:
    return Settings.model_validate({"data": data})


def test_own_file_is_copied_and_described(tmp_path: Path) -> None:
    (tmp_path / "my log.csv").write_bytes(CSV)
    result = fetch_stage.run(settings(source="file", path="my log.csv"), tmp_path)
    raw = tmp_path / "data" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == ["my log.csv", "source.json"]
    assert (raw / "my log.csv").read_bytes() == CSV
    record = json.loads((raw / "source.json").read_text())
    assert record["sha256"] == hashlib.sha256(CSV).hexdigest() == result["sha256"]
    assert (record["file"], record["size"]) == ("my log.csv", len(CSV))
    assert record["licence"]
    assert str(tmp_path) not in json.dumps(record)
    reading = {"user_column": "buyer", "item_column": "sku", "time_column": "when"}
    frame, report = read_raw_log(raw, reading)
    assert (len(frame), report.columns["user_id"]) == (2, "buyer")


@pytest.mark.parametrize("name", ["source.json", "generator.json", "generator.npz"])
def test_own_file_with_a_reserved_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CSV)
    fetch_stage.run(settings(source="file", path=name), tmp_path)
    assert read_record(tmp_path / "data" / "raw")["file"] == f"log_{name}"


def test_own_file_outside_the_workspace(tmp_path: Path) -> None:
    log, workspace = tmp_path / "a.csv", tmp_path / "run"
    workspace.mkdir()
    log.write_bytes(CSV)
    for path in (str(log), "../a.csv"):
        fetch_stage.run(settings(source="file", path=path), workspace)
        assert sorted(p.name for p in (workspace / "data" / "raw").iterdir()) == [
            "a.csv",
            "source.json",
        ]


def test_failure_keeps_the_previous_log(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    fetch_stage.run(settings(source="file", path="a.csv"), tmp_path)
    with pytest.raises(DataError, match=r"b\.csv does not exist"):
        fetch_stage.run(settings(source="file", path="b.csv"), tmp_path)
    assert read_record(tmp_path / "data" / "raw")["file"] == "a.csv"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_archive_member_is_remembered(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", CSV)
        archive.writestr("two.csv", CSV + b"u3,i3,1500000002\n")
    fetch_stage.run(settings(source="file", path="a.zip::two.csv"), tmp_path)
    reading = {"user_column": "buyer", "item_column": "sku", "time_column": "when"}
    frame, report = read_raw_log(tmp_path / "data" / "raw", reading)
    assert (len(frame), report.member) == (3, "two.csv")


def test_named_source_brings_its_own_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = tmp_path / "cached"
    cached.write_bytes(b"1\t2\t3\t881250949\n1\t3\t4\t881250949\n")

    def fetch_log(source, cache):
        return FetchedLog(cached, "", 0, "the web", True)

    monkeypatch.setattr(fetch_stage, "fetch_log", fetch_log)
    result = fetch_stage.run(settings(user_column="ignored"), tmp_path)
    assert result["origin"] == "the web"
    assert "GroupLens" in result["licence"]
    frame, _ = read_raw_log(tmp_path / "data" / "raw", {"user_column": "ignored"})
    assert frame["item_id"].to_list() == ["2", "3"]
    assert frame["rating"].to_list() == [3.0, 4.0]


def test_unreachable_source_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch_log(source, cache):
        raise SourceUnreachableError("no network")

    monkeypatch.setattr(fetch_stage, "fetch_log", fetch_log)
    with pytest.raises(SourceUnreachableError):
        fetch_stage.run(settings(), tmp_path)
    assert not (tmp_path / "data" / "raw").exists()


def test_synthetic_log_is_reproducible(tmp_path: Path) -> None:
    chosen = settings(source="synthetic", synthetic={"num_users": 50})
    first = fetch_stage.run(chosen, tmp_path / "a")
    second = fetch_stage.run(chosen, tmp_path / "b")
    assert first == second
    for name in ("synthetic.csv", "generator.json", "generator.npz", "source.json"):
        contents = [(tmp_path / w / "data" / "raw" / name).read_bytes() for w in "ab"]
        assert contents[0] == contents[1]
    frame, report = read_raw_log(tmp_path / "a" / "data" / "raw", {})
    assert frame["user_id"].n_unique() == 50
    assert len(report.unparsed) == 0
    assert report.warnings == ()


def test_changed_log_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    fetch_stage.run(settings(source="file", path="a.csv"), tmp_path)
    raw = tmp_path / "data" / "raw"
    (raw / "a.csv").write_bytes(CSV[:-1])
    with pytest.raises(ChecksumError, match="changed after the fetch stage"):
        read_raw_log(raw, {})
    (raw / "a.csv").unlink()
    with pytest.raises(ChecksumError, match="is missing"):
        read_raw_log(raw, {})


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"file": "../a", "sha256": "", "reading": {}}', '{"file": 1}'],
)
def test_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(content)
    with pytest.raises(DataError, match="Run the fetch stage first"):
        read_raw_log(tmp_path, {})


def test_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m tasks fetch"):
        read_record(tmp_path)
