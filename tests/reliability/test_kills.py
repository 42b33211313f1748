"""The kill harness notices what it is there to notice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.forks import journal_sizes, truncate_last
from benchmarks.reliability.kills import difference
from benchmarks.reliability.outputs import digest_outputs, logged
from tasks.tracking.journal import Journal


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, ""),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "/a/b: 2, expected 1"),
        ({"a": 1}, {}, "/a is missing"),
        ({}, {"x": 1}, "/x is one too many: 1"),
        ([1, {"a": 2}], [1, {"a": 3}], "/1/a: 3, expected 2"),
        ([1], [1, 2], ": [1, 2], expected [1]"),
    ],
    ids=["equal", "value", "missing", "extra", "in_list", "length"],
)
def test_differences_are_found(expected: object, got: object, text: str) -> None:
    assert difference(expected, got) == text


def test_outputs_are_compared_apart_from_times(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    record = folder / "record.json"
    record.write_text(json.dumps({"loss": 1.5, "wall_seconds": 3.0}))
    before = digest_outputs(tmp_path)

    record.write_text(json.dumps({"loss": 1.5, "wall_seconds": 4.0}))
    assert digest_outputs(tmp_path) == before
    record.write_text(json.dumps({"loss": 1.6, "wall_seconds": 3.0}))
    assert digest_outputs(tmp_path) != before
    record.write_text(json.dumps({"loss": 1.5}))
    (folder / ".record.json.part").write_text("left over")
    assert "artifacts/.record.json.part" in digest_outputs(tmp_path)


def test_a_point_logged_twice_shows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / ".assay" / "spool" / "00000001-k.jsonl")
    points = [["train/loss", 1.0, 7, 1]]
    journal.append([{"op": "run", "key": "k", "name": "gru seed 0"}])
    journal.append([{"op": "metrics", "key": "k", "kind": "epoch", "points": points}])
    once = logged(tmp_path)

    journal.append([{"op": "metrics", "key": "k", "kind": "epoch", "points": points}])

    assert "train/loss at 1 = 1.0: 2" in str(logged(tmp_path)).replace("'", "")
    assert difference(once, logged(tmp_path))


def test_a_power_cut_takes_the_end_of_the_newest_file(tmp_path: Path) -> None:
    for age, name in enumerate(("new.json", "old.json", "store.db")):
        (tmp_path / name).write_text("x" * 1000)
        os.utime(tmp_path / name, (2e9 - age, 2e9 - age))
    os.utime(tmp_path / "store.db", (3e9, 3e9))

    assert truncate_last(tmp_path, 1e9, random.Random(0)) == "new.json"
    assert (tmp_path / "new.json").stat().st_size < 1000
    assert (tmp_path / "old.json").stat().st_size == 1000
    assert (tmp_path / "store.db").stat().st_size == 1000
    assert truncate_last(tmp_path, 2.5e9, random.Random(0)) == ""


def test_a_power_cut_leaves_what_earlier_stages_logged(tmp_path: Path) -> None:
    path = tmp_path / ".assay" / "spool" / "00000001-k.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("x" * 900)
    durable = journal_sizes(tmp_path)
    path.write_text("x" * 1000)

    sizes = []
    for seed in range(20):
        path.write_text("x" * 1000)
        truncate_last(tmp_path, 0, random.Random(seed), durable)
        sizes.append(path.stat().st_size)

    assert 900 <= min(sizes) < max(sizes) <= 1000


@pytest.mark.long
def test_killed_stages_leave_what_unbroken_ones_leave(tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "kills.json"
    command = [sys.executable, "-m", "benchmarks.reliability.kills", "--kills", "5"]
    subprocess.run([*command, "--out", str(out)], cwd=repository, check=True, timeout=1500)

    rows = json.loads(out.read_text())["stages"]
    assert len(rows) == 9
    assert all(row["kills"] >= 5 for row in rows)
    assert [row["failures"] for row in rows if row["failures"]] == []
