"""Runs a command under `flows.supervise`, line by line, with a deadline, ended when we end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import supervise
from tasks import quiet

KEPT_LINES = 200
STOPPING = "Stopping: trainings write their checkpoints first."
"""Said when a run is interrupted, before its commands are ended."""


@dataclass(frozen=True)
class Completed:
    """How a command ended."""

    code: int
    """Exit code; 128 + N after signal N."""
    lines: tuple[str, ...]
    """Its last lines of output, standard error included."""
    timed_out: bool
    """Whether it was ended because its time was up."""
    seconds: float
    """Wall time."""


class Commands:
    """Runs commands, each from a thread of its own if need be, and can end them all."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._ended = False

    def run(
        self,
        command: list[str],
        folder: Path,
        *,
        on_line: Callable[[str], None],
        timeout_seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command to its end.

        Args:
            command: Program and arguments; no shell is involved.
            folder: Where it runs.
            on_line: Called with every line of output as it comes.
            timeout_seconds: After this the command and all it started are ended.
            environment: Variables besides this process's own.

        Raises:
            InterruptedError: `end_all` was called.
        """
        started = time.monotonic()
        timed_out = threading.Event()
        process = self._start(command, folder, environment or {})
        timer = threading.Timer(timeout_seconds, lambda: (timed_out.set(), _ask_to_end(process)))
        timer.daemon = True
        timer.start()
        lines: list[str] = []
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                on_line(lines[-1])
                del lines[:-KEPT_LINES]
        finally:
            timer.cancel()
            _ask_to_end(process)
            code = process.wait()
            if process.stdout:
                process.stdout.close()
            with self._guard:
                self._running.discard(process)
        return Completed(code, tuple(lines), timed_out.is_set(), time.monotonic() - started)

    def end_all(self) -> None:
        """Ask every running command to end, and start no more."""
        with self._guard:
            self._ended = True
            processes = list(self._running)
        for process in processes:
            _ask_to_end(process)

    def _start(
        self, command: list[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        with self._guard:
            if self._ended:
                raise InterruptedError(f"{command[0]} is not started: the experiment was ended.")
            process = subprocess.Popen(  # noqa: S603 - no shell
                [sys.executable, "-P", supervise.__file__, *command],
                cwd=folder,
                env=_environment(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
            self._running.add(process)
        return process


def _ask_to_end(process: subprocess.Popen[str]) -> None:
    if process.stdin and not process.stdin.closed:
        process.stdin.close()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with our interpreter first: DVC runs the ``python`` on PATH."""
    first = str(Path(sys.executable).parent)
    path = os.pathsep.join([first, os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **quiet.TELEMETRY_OFF, **more}
