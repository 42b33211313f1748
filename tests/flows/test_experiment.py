"""The flow runs the DAG through DVC, as `dvc repro` would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.run_logs import ExperimentFailedError
from flows.start import answers
from flows.start import run_experiment as start
from flows.workspace import hash_settings
from tasks.lock import HOLDER, WorkspaceBusyError, experiment_lock, refuse_if_busy
from tasks.settings import load_settings, write_params
from tests.flows.conftest import calls, spans

# One server for all of them, whichever worker of pytest-xdist they run on.
pytestmark = pytest.mark.xdist_group("prefect")


def test_what_changed_runs_once_side_by_side_and_dvc_agrees(
    run_experiment: Callable[..., Any], toy: Path
) -> None:
    for model in ("gru", "xlstm"):
        (toy / f"train_{model}.py").write_text("import time; time.sleep(3)")

    result = run_experiment()

    assert set(result.outcomes.values()) == {"ran"}
    assert sorted(calls(toy)) == ["evaluate", "fetch", "train_gru", "train_xlstm"]
    times = spans(toy)
    first_end = min(times["train_gru"][1], times["train_xlstm"][1])
    assert max(times["train_gru"][0], times["train_xlstm"][0]) < first_end
    assert times["evaluate"][0] > max(times["train_gru"][1], times["train_xlstm"][1])
    assert "didn't change, skipping" in _dvc(toy, "repro")

    changed = load_settings(toy / "params.yaml", ["train.xlstm.dropout=0.37"])
    write_params(changed, toy / "params.yaml")
    assert run_experiment().outcomes == {
        "fetch": "unchanged",
        "train@gru-0": "unchanged",
        "train@xlstm-0": "ran",
        "evaluate": "unchanged",
    }
    assert calls(toy)[4:] == ["train_xlstm"]


def test_a_failure_keeps_the_rest_and_the_same_command_continues(
    run_experiment: Callable[..., Any], toy: Path
) -> None:
    broken = toy / "train_gru.py"
    broken.write_text("raise SystemExit('the disk is full')")

    with pytest.raises(ExperimentFailedError) as caught:
        run_experiment()

    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert "train@gru-0 ended with exit code 1" in message
    assert "the disk is full" in message
    assert "failed to reproduce" not in message, "the stage has said itself what it is"
    assert "Not started, as they need what failed: evaluate" in message
    broken.unlink()
    assert run_experiment().outcomes == {
        "fetch": "unchanged",
        "train@xlstm-0": "unchanged",
        "train@gru-0": "ran",
        "evaluate": "ran",
    }


@pytest.mark.long
def test_a_stage_that_fails_once_is_tried_again(
    run_experiment: Callable[..., Any], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.experiment.RETRY_SECONDS", 0)
    (toy / "train_gru.py").write_text(
        "import pathlib\nmark = pathlib.Path('tried')\n"
        "if not mark.exists():\n    mark.touch()\n    raise SystemExit(1)\n"
    )

    result = run_experiment(retries=1)

    assert result.outcomes["train@gru-0"] == "ran"
    assert calls(toy).count("train_gru") == 2


def test_a_stage_that_refuses_its_settings_is_not_tried_again(
    run_experiment: Callable[..., Any], toy: Path
) -> None:
    (toy / "train_gru.py").write_text("raise SystemExit(2)")

    with pytest.raises(ExperimentFailedError, match="exit code 2") as caught:
        run_experiment(retries=3)

    assert caught.value.exit_code == 2
    assert calls(toy).count("train_gru") == 1


@pytest.mark.long
def test_a_stage_that_takes_too_long_is_ended(
    run_experiment: Callable[..., Any], toy: Path
) -> None:
    (toy / "train_gru.py").write_text("import time; time.sleep(120)")

    with pytest.raises(ExperimentFailedError, match=r"train@gru-0 was ended after 5 s"):
        run_experiment(stage_timeout_minutes=5 / 60)

    assert "train_gru" not in spans(toy)


def test_two_experiments_never_share_a_workspace(
    run_experiment: Callable[..., Any], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with experiment_lock(toy, "flow run nightly") as token:
        with pytest.raises(WorkspaceBusyError, match=r"flow run nightly \(process \d+"):
            run_experiment()
        with pytest.raises(WorkspaceBusyError, match="assay run --name"):
            refuse_if_busy(toy)
        monkeypatch.setenv(HOLDER, token)
        refuse_if_busy(toy)

    monkeypatch.delenv(HOLDER)
    refuse_if_busy(toy)
    assert calls(toy) == []


def test_settings_that_another_command_wrote_are_not_run(
    run_experiment: Callable[..., Any], toy: Path
) -> None:
    asked = hash_settings(load_settings(toy / "params.yaml"))
    other = load_settings(toy / "params.yaml", ["train.gru.dropout=0.37"])
    write_params(other, toy / "params.yaml")

    with pytest.raises(WorkspaceBusyError, match=r"params\.yaml was replaced by another command"):
        run_experiment(settings_hash=asked)

    assert calls(toy) == []
    assert set(run_experiment(settings_hash=hash_settings(other)).outcomes.values()) == {"ran"}


def test_a_lock_goes_with_its_holder(toy: Path) -> None:
    code = (
        "import os; from pathlib import Path; from tasks.lock import experiment_lock\n"
        f"with experiment_lock(Path({str(toy)!r}), 'x'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (toy / ".assay" / "lock.json").exists()

    refuse_if_busy(toy)
    with experiment_lock(toy, "the next"):
        pass


def test_with_nothing_to_do_no_server_is_started(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dvc(toy, "repro")

    def refuse() -> None:
        raise AssertionError("Prefect was prepared")

    monkeypatch.setattr("flows.prefect_environment.prepare", refuse)

    assert set(start(toy).outcomes.values()) == {"unchanged"}


@pytest.mark.long
def test_a_server_that_does_not_answer_is_replaced(
    run_experiment: Callable[..., Any], toy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    assert answers(PREFECT_API_URL.value())
    assert not answers("http://127.0.0.1:9/api")
    assert not answers("ftp://127.0.0.1/api")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        result = start(toy)

    assert set(result.outcomes.values()) == {"ran"}
    assert "does not answer" in caplog.text


def _dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    return done.stdout + done.stderr
