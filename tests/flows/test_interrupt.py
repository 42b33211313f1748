"""Ctrl-C ends a running experiment soon, says how to go on, and the same command does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path, repository: Path) -> None:
    folder = make_workspace("small project", tmp_path / "workspace", repository)

    first = _start(folder)
    told = _lines_until(first, "at most 400 epochs")
    time.sleep(3)  # a few steps
    os.killpg(first.pid, signal.SIGINT)  # a terminal tells every process of the command
    rest, _ = first.communicate(timeout=120)
    assert first.returncode == 130, "\n".join(told) + rest
    assert "Traceback" not in rest
    assert "to go on from there: assay run --name stop" in rest

    second = _start(folder)
    told = _lines_until(second, "resuming at step")
    os.killpg(second.pid, signal.SIGINT)
    second.communicate(timeout=120)
    assert "resuming at step" in told[-1]


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
