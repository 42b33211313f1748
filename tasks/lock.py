"""One experiment at a time in a workspace; two at once would mix their results."""

from __future__ import annotations

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
