"""Ctrl-C or SIGTERM ends a running experiment soon, says how to go on; the same command does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.workspaces import environment, make_workspace

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("prefect")]
COMMAND = [
    *(sys.executable, "-c", "from flows.cli import main; main()"),
    *("run", "--name", "stop", "--set", "experiment.models=[gru]"),
    *("--set", "train.shared.max_epochs=400", "--set", "train.shared.patience=400"),
    *("--set", "diagnose.before_training=off", "--set", "diagnose.model=gru"),
]


def _press_ctrl_c(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells every process of the command


def _terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()  # a service manager tells the command alone


@pytest.mark.parametrize("end", [_press_ctrl_c, _terminate], ids=["ctrl_c", "sigterm"])
def test_an_ended_run_leaves_nothing_running_and_goes_on(
    end: Callable[[subprocess.Popen[str]], None], tmp_path: Path, repository: Path
) -> None:
    folder = make_workspace("small project", tmp_path / "workspace", repository)

    first = _start(folder)
    told = _lines_until(first, "at most 400 epochs")
    time.sleep(3)  # a few steps
    end(first)
    rest, _ = first.communicate(timeout=120)
    assert first.returncode == 130, "\n".join(told) + rest
    assert "Traceback" not in rest
    assert "to go on from there: assay run --name stop" in rest

    second = _start(folder)
    told = _lines_until(second, "resuming at step")
    end(second)
    second.communicate(timeout=120)
    assert "resuming at step" in told[-1]
    for process in (first, second):
        assert _ended(process.pid), "processes of the command are still there"


def _ended(session: int, seconds: float = 20.0) -> bool:
    """Whether no process of a session is left, after some seconds at most."""
    listed = ["ps", "-o", "pid=", "-s", str(session)]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not subprocess.run(listed, capture_output=True, text=True).stdout.strip():
            return True
        time.sleep(0.5)
    return False


def _start(folder: Path) -> subprocess.Popen[str]:
    def hear_ctrl_c() -> None:
        # A shell that starts jobs in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def _lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was never printed:\n{''.join(lines)}")
