"""Runs a command under a memory limit of the kernel's, as a small machine would: Linux, as root.

The limit counts what a process allocates and what it has read of files. The kernel takes the latter
back where memory is short, so a command that needs no more than the limit ends as usual, and one
that needs more is killed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def run_limited(command: list[str], gib: float) -> tuple[str, float]:
    """Standard output of a command, and the most GiB that were charged to it.

    Raises:
        PermissionError: control groups can not be made here.
        subprocess.CalledProcessError: the command failed, or was killed for its memory.
    """
    with _group(int(gib * 2**30)) as (folder, charged):

        def enter() -> None:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

        found = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=enter
        )
        return found.stdout, int((folder / charged).read_text()) / 2**30


@contextmanager
def _group(size: int) -> Iterator[tuple[Path, str]]:
    """A control group of so many bytes, and its file that tells the most ever charged."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    by_kind = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
    if "memory" in by_kind:
        parent = ROOT / "memory" / by_kind["memory"].lstrip("/")
        limit, charged, swap = "memory.limit_in_bytes", "memory.max_usage_in_bytes", ""
    else:
        parent = ROOT / by_kind[""].lstrip("/")
        limit, charged, swap = "memory.max", "memory.peak", "memory.swap.max"
    folder = parent / f"limited-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(size))
        if swap and (folder / swap).exists():
            (folder / swap).write_text("0")
        yield folder, charged
    finally:
        folder.rmdir()
