"""No two processes write the same at once, whichever command started them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import tune_command
from flows.cli import _guarded, app
from tasks import lock
from tasks.__main__ import main
from tasks.lock import WorkspaceBusyError, experiment_lock, hold, stage_lock
from tasks.settings import settings_from_dict, write_params

HOLD = """\
import sys, time
from pathlib import Path
from tasks.lock import stage_lock
with stage_lock(Path.cwd(), *sys.argv[1:]):
    print("held", flush=True)
    time.sleep(60)
"""
FETCH = ("fetch", "fetch")
TRAIN = ("train", "train gru seed 0")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = {"data": {"source": "synthetic"}, "tracking": {"enabled": False}}
    write_params(settings_from_dict(settings), tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "STAGE_SECONDS", 0.1)
    return tmp_path


@pytest.fixture
def start(workspace: Path, repository: Path):
    """Start another process that holds a stage; all are ended with the test."""
    started = []

    def run(*what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, *what]
        process = subprocess.Popen(
            command,
            cwd=workspace,
            env={"PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def commands(*words: str):
    """A stage by both commands."""

    def assay() -> int:
        try:
            return _guarded(lambda: app(["stage", *words]))
        except SystemExit as end:
            return int(end.code or 0)

    return [lambda: main(list(words)), assay]


@pytest.mark.parametrize("command", commands("fetch"), ids=["tasks", "assay"])
def test_the_same_stage_twice_at_once_is_refused(command, start, workspace, capsys) -> None:
    process = start(*FETCH)

    assert command() == 1

    said = capsys.readouterr().err
    assert f"another process runs fetch in {workspace}. Wait for it to end" in said
    assert "Traceback" not in said
    assert not (workspace / "data").exists()
    process.kill()
    process.wait()
    assert command() == 0
    assert (workspace / "data" / "raw" / "source.json").is_file()


@pytest.mark.parametrize("command", commands("fetch"), ids=["tasks", "assay"])
def test_a_stage_beside_an_experiment_is_refused(command, workspace, capsys) -> None:
    with experiment_lock(workspace, "flow run nightly"):
        assert command() == 1

    assert "flow run nightly" in capsys.readouterr().err
    assert not (workspace / "data").exists()


def test_a_diagnosis_beside_an_experiment_is_refused(workspace, capsys) -> None:
    (workspace / "data" / "prepared").mkdir(parents=True)
    (workspace / "data" / "prepared" / "manifest.json").write_text("{}")
    with experiment_lock(workspace, "flow run nightly"):
        assert _guarded(lambda: app(["diagnose"], standalone_mode=False)) == 1

    assert "flow run nightly" in capsys.readouterr().err
    assert not (workspace / "artifacts").exists()


def test_other_models_and_seeds_train_beside_it(start, workspace) -> None:
    start(*TRAIN)

    with stage_lock(workspace, "train", "train gru seed 1"):
        pass
    with stage_lock(workspace, "train", "train xlstm seed 0"):
        pass
    with pytest.raises(WorkspaceBusyError, match="train gru seed 0"):
        stage_lock(workspace, *TRAIN).__enter__()


def test_processes_of_one_training_hold_it_together(start, workspace, monkeypatch) -> None:
    start(*TRAIN)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")

    with stage_lock(workspace, *TRAIN):
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(WorkspaceBusyError, match="train gru seed 0"):
            stage_lock(workspace, *TRAIN).__enter__()


def test_a_stage_waits_for_one_that_is_ending(start, workspace, monkeypatch) -> None:
    monkeypatch.setattr(lock, "STAGE_SECONDS", 30.0)
    process = start(*FETCH)
    process.terminate()
    begun = time.monotonic()

    with stage_lock(workspace, *FETCH):
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("model", ["../../up", "n" * 5000, "a\0b", "\ud800"])
def test_names_of_no_model_make_no_file(model, workspace) -> None:
    with stage_lock(workspace, "train", f"train {model} seed 0"):
        (made,) = (workspace / ".assay" / "locks").iterdir()
        assert len(made.name) < 40


def test_two_searches_at_once_are_refused(workspace) -> None:
    (workspace / "data" / "prepared").mkdir(parents=True)
    (workspace / "data" / "prepared" / "manifest.json").write_text('{"data_hash": "d"}')
    path = workspace / tune_command.STORAGE.parent / tune_command.LOCK

    with hold(path, "x"), pytest.raises(WorkspaceBusyError, match="another search runs in"):
        tune_command.tune(workspace, models=("gru",), trials=1)
