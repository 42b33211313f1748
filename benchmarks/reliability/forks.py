"""Runs stages in forks of a process that has everything imported, and kills them at any moment."""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Mode = Literal["SIGKILL", "SIGTERM", "power cut"]
MODES: tuple[Mode, ...] = ("SIGKILL", "SIGTERM", "power cut")
GRACE_SECONDS = 30.0
NOTHING: Mapping[Path, int] = MappingProxyType({})
UNTOUCHED = (".db", ".db-wal", ".db-shm", ".lock", ".log")
"""Databases protect themselves from power cuts; locks hold nothing."""


@dataclass(frozen=True)
class Ended:
    """How a fork ended."""

    code: int
    """Exit code, or minus the signal."""
    seconds: float
    truncated: str = ""
    """File that a power cut shortened."""

    @property
    def was_killed(self) -> bool:
        """Whether the kill came before the end."""
        return self.code in (-signal.SIGKILL, -signal.SIGTERM, 130, 143)


def warm_up() -> None:
    """Import what the stages need, once for all forks; nothing is computed."""
    import mlflow.pyfunc  # noqa: F401
    import torch

    from tasks import tracking  # noqa: F401
    from tasks.data import fetch_stage, prepare_stage  # noqa: F401
    from tasks.diagnostics import check_stage, diagnose_stage  # noqa: F401
    from tasks.evaluation import evaluate_stage  # noqa: F401
    from tasks.report import report_stage  # noqa: F401
    from tasks.training import train_stage  # noqa: F401

    torch.set_num_threads(1)


def import_all(names: Iterable[str]) -> None:
    """Import modules that a fork imported, so that the next forks have them already."""
    for name in names:
        if name not in sys.modules:
            # Some are made while running, and some names are no modules of their own.
            with suppress(Exception):
                importlib.import_module(name)


def run_fork(work: Callable[[], int], folder: Path) -> Ended:
    """Run ``work`` in a fork, within ``folder``, to its end."""
    started = time.monotonic()
    pid = _start(work, folder)
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - started)


def kill_fork(
    work: Callable[[], int],
    folder: Path,
    *,
    after: float,
    mode: Mode,
    rng: random.Random,
    durable: Mapping[Path, int] = NOTHING,
) -> Ended:
    """Run ``work`` in a fork and kill it ``after`` seconds.

    A power cut is a SIGKILL after which the file written last, if the fork wrote any, loses its
    end; of files that are appended to ``durable`` bytes are safe.
    """
    wall, started = time.time(), time.monotonic()
    pid = _start(work, folder)
    while (left := started + after - time.monotonic()) > 0:
        time.sleep(min(left, 0.02))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - started)
    os.kill(pid, signal.SIGTERM if mode == "SIGTERM" else signal.SIGKILL)
    status = _wait(pid, GRACE_SECONDS)
    truncated = truncate_last(folder, wall, rng, durable) if mode == "power cut" else ""
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - started, truncated)


def journal_sizes(folder: Path) -> dict[Path, int]:
    """Bytes of the files below a folder that are appended to by one stage after the other."""
    return {path: path.stat().st_size for path in folder.rglob("spool/*.jsonl")}


def truncate_last(
    folder: Path, since: float, rng: random.Random, durable: Mapping[Path, int] = NOTHING
) -> str:
    """Shorten the newest file written after ``since``; returns its name, or nothing."""
    written = [
        (path.stat().st_mtime, path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in UNTOUCHED and path.stat().st_mtime >= since
    ]
    if not written:
        return ""
    _, newest = max(written)
    size = newest.stat().st_size
    os.truncate(newest, rng.randint(min(durable.get(newest, 0), size), size))
    return str(newest.relative_to(folder))


def _start(work: Callable[[], int], folder: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        log = os.open(folder / "stage.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        code = work()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]
