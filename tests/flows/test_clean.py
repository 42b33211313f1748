"""``assay clean`` keeps the newest runs, the only good one and any that is in progress."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flows.cli import _guarded, app
from flows.launch import REPORT
from tasks.lock import experiment_lock


@pytest.fixture
def project(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with runs a (oldest) to e; only b finished."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for age, name in enumerate("edcba"):
        folder = toy / "runs" / name
        (folder / "artifacts" / "report").mkdir(parents=True)
        (folder / "params.yaml").write_bytes((toy / "params.yaml").read_bytes())
        (folder / "tasks").symlink_to(toy)
        os.utime(folder / "params.yaml", (2e9 - age, 2e9 - age))
    (toy / "runs" / "b" / REPORT).write_text("<html>")
    os.utime(toy / "runs" / "b" / REPORT, (1e9, 1e9))
    (toy / "runs" / "notes.txt").write_text("mine")
    monkeypatch.chdir(toy)
    return toy


def clean(*arguments: str) -> int:
    try:
        return _guarded(lambda: app(["clean", *arguments]))
    except SystemExit as end:
        return int(end.code or 0)


def names(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "runs").iterdir())


def test_without_yes_nothing_goes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean("--keep", "2") == 0

    said = capsys.readouterr().out
    assert "Would remove 2 run folders: c, a" in said
    assert "add --yes" in said
    assert names(project) == ["a", "b", "c", "d", "e", "notes.txt"]


def test_the_newest_and_the_only_good_run_stay(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean("--keep", "2", "--yes", "--json") == 0

    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == ["c", "a"]
    assert told["kept"]["b"] == "the newest that finished"
    assert names(project) == ["b", "d", "e", "notes.txt"]
    # What a run only links to is not its own.
    assert (project / "dvc.yaml").is_file()
    assert (project / "work.py").is_file()


def test_a_run_in_progress_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with experiment_lock(project / "runs" / "a", "a test"):
        assert clean("--keep", "1", "--yes") == 0

    assert "Kept a: an experiment runs in it" in capsys.readouterr().out
    assert names(project) == ["a", "b", "e", "notes.txt"]


def test_keeping_none_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean("--keep", "0", "--yes") == 2
    assert clean("--yes") == 2
    assert len(names(project)) == 6
