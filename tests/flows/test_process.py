"""A command never outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows import supervise
from flows.process import Commands

PATIENT = "import time, os; print(os.getpid(), flush=True); time.sleep(60)"
SPEAKING = "import os, sys; print(os.getcwd()); print(1, file=sys.stderr); sys.exit(3)"
TREE = (
    "import subprocess, sys; "
    f"child = subprocess.Popen([sys.executable, '-c', {PATIENT!r}]); child.wait()"
)


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    lines: list[str] = []

    done = Commands().run(
        [
            sys.executable,
            "-c",
            "import os, sys; print(os.getcwd()); print(1, file=sys.stderr); sys.exit(3)",
        ],
        tmp_path,
        on_line=lines.append,
        timeout_seconds=60,
    )

    assert done.code == 3
    assert sorted(lines) == sorted([str(tmp_path), "1"])
    assert not done.timed_out


def test_the_interpreter_of_this_process_comes_first(tmp_path: Path) -> None:
    lines: list[str] = []

    Commands().run(
        ["python", "-c", "import sys; print(sys.prefix)"],
        tmp_path,
        on_line=lines.append,
        timeout_seconds=60,
    )

    assert lines == [sys.prefix]


def test_after_the_timeout_the_whole_tree_is_gone(tmp_path: Path) -> None:
    lines: list[str] = []

    done = Commands().run(
        [sys.executable, "-c", TREE], tmp_path, on_line=lines.append, timeout_seconds=2
    )

    assert done.timed_out
    assert done.code == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(lines[0]))


def test_ending_all_stops_what_runs_and_starts_no_more(tmp_path: Path) -> None:
    commands = Commands()
    lines: list[str] = []
    started = threading.Event()

    def note(line: str) -> None:
        lines.append(line)
        started.set()

    thread = threading.Thread(
        target=commands.run,
        args=([sys.executable, "-c", TREE], tmp_path),
        kwargs={"on_line": note, "timeout_seconds": 60},
    )
    thread.start()
    assert started.wait(30)

    commands.end_all()
    thread.join(timeout=30)

    assert not thread.is_alive()
    assert not psutil.pid_exists(int(lines[0]))
    with pytest.raises(InterruptedError, match="not started"):
        commands.run([sys.executable, "-c", ""], tmp_path, on_line=note, timeout_seconds=1)


def test_when_the_starter_is_killed_the_command_ends_too(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _starter(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    assert psutil.pid_exists(pid)

    starter.kill()
    starter.wait()
    starter.stdout.close()

    assert _gone(pid, seconds=20)


def test_what_ignores_the_request_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    started = time.monotonic()

    supervise.end_group(child.pid, grace_seconds=0.5)

    assert child.wait(timeout=10) == -signal.SIGKILL
    assert time.monotonic() - started >= 0.5
    child.stdout.close()


def _starter(folder: Path) -> str:
    return (
        "import sys; from pathlib import Path; from flows.process import Commands; "
        f"Commands().run([sys.executable, '-c', {PATIENT!r}], Path({str(folder)!r}), "
        "on_line=lambda line: print(line, flush=True), timeout_seconds=60)"
    )


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
