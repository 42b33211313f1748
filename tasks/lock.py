"""One experiment at a time in a workspace; two at once would mix their results.

Within a workspace one process at a time runs a stage, or a search.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

HOLDER = "ASSAY_LOCK_HOLDER"
"""Environment variable by which the stages an experiment starts know that they belong to it."""

STAGE_SECONDS = 10.0
"""Time a stage waits for another process: one that was told to end may still write a checkpoint."""


class WorkspaceBusyError(OSError):
    """Another experiment runs in this workspace."""


@contextmanager
def experiment_lock(workspace: Path, what: str) -> Iterator[str]:
    """Hold the workspace for one experiment; freed by the system when the process ends.

    Args:
        workspace: Folder of the experiment.
        what: What runs, for the message another process gets.

    Yields:
        The token that stages started by this experiment carry in `HOLDER`.

    Raises:
        WorkspaceBusyError: another experiment holds it.
    """
    folder = workspace / ".assay"
    folder.mkdir(parents=True, exist_ok=True)
    # A stage that looks whether the workspace is busy holds the lock for a moment.
    lock = FileLock(folder / "lock", timeout=2)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceBusyError(_busy(workspace)) from None
    token = uuid.uuid4().hex
    about = {"token": token, "pid": os.getpid(), "what": what, "since": time.strftime("%F %T")}
    try:
        (folder / "lock.json").write_text(json.dumps(about), encoding="utf-8")
        yield token
    finally:
        (folder / "lock.json").unlink(missing_ok=True)
        lock.release()


def refuse_if_busy(workspace: Path) -> None:
    """Stop a stage that was started by hand, or by another experiment, while one runs here.

    Args:
        workspace: Folder the stage would write to.

    Raises:
        WorkspaceBusyError: an experiment holds the workspace and did not start this process.
    """
    path = workspace / ".assay" / "lock"
    if not path.exists() or _holder(workspace).get("token") == os.environ.get(HOLDER, ""):
        return
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceBusyError(_busy(workspace)) from None
    lock.release()


@contextmanager
def idle_workspace(workspace: Path) -> Iterator[None]:
    """Hold a workspace for a moment in which no experiment runs in it, to change its settings.

    Args:
        workspace: Folder of the experiment.

    Raises:
        WorkspaceBusyError: an experiment runs there.
    """
    with hold(workspace / ".assay" / "lock", _busy(workspace)):
        yield


@contextmanager
def stage_lock(workspace: Path, stage: str, what: str) -> Iterator[None]:
    """Hold what one run of a stage writes, so that no second process writes it too.

    Under ``torchrun`` the first process holds it for all, as it alone writes.

    Args:
        workspace: Folder of the experiment.
        stage: Name of the stage.
        what: The stage with its model and seed.

    Raises:
        WorkspaceBusyError: another process runs the same.
    """
    is_helper = os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"
    if is_helper:
        yield
        return
    # What was asked for may be no model at all, and no file name.
    digest = hashlib.sha256(what.encode(errors="replace")).hexdigest()[:16]
    path = workspace / ".assay" / "locks" / f"{stage}-{digest}.lock"
    busy = (
        f"another process runs {what} in {workspace}. Wait for it to end; what it leaves is what "
        "this one would."
    )
    with hold(path, busy, seconds=STAGE_SECONDS):
        yield


@contextmanager
def hold(path: Path, busy: str, *, seconds: float = 2.0) -> Iterator[None]:
    """Hold a lock file; freed by the system when the process ends.

    Args:
        path: The file, made where it is missing.
        busy: What to say when another process holds it.
        seconds: Time to wait for that one.

    Raises:
        WorkspaceBusyError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceBusyError(busy) from None
    try:
        yield
    finally:
        lock.release()


def _holder(workspace: Path) -> dict[str, str]:
    try:
        return dict(json.loads((workspace / ".assay" / "lock.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _busy(workspace: Path) -> str:
    holder = _holder(workspace)
    what = holder.get("what", "another experiment")
    return (
        f"{what} (process {holder.get('pid', '?')}, since {holder.get('since', '?')}) runs in "
        f"{workspace}. Wait for it to end, or run beside it in a folder of its own: "
        "assay run --name NAME."
    )
