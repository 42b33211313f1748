"""Replaces folders and files in one step, so that a killed writer leaves none half-written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill that becomes ``folder`` when the block ends well.

    The folder to fill lies beside ``folder`` as ``.NAME.partial``. At the end its files are
    flushed to the disk and it is renamed; what was in ``folder`` before is removed. If the block
    raises, ``folder`` stays as it was. Killed between the two renames, ``folder`` is missing,
    never half-written.

    Args:
        folder: Folder to replace or create.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    previous = folder.with_name(f".{folder.name}.previous")
    for leftover in (partial, previous):
        _remove(leftover)
    partial.mkdir()
    try:
        yield partial
    except BaseException:
        _remove(partial)
        raise
    for path in [*partial.rglob("*"), partial]:
        _flush(path)
    if folder.exists():
        os.rename(folder, previous)
    os.rename(partial, folder)
    _flush(folder.parent)
    _remove(previous)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file that is there whole or as it was, even after a power cut or on a full disk.

    Args:
        path: File to replace or create.
        content: Its content; text is written as UTF-8.

    Returns:
        The path.
    """
    # One name for all tries, so that a killed one leaves nothing that stays.
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    _flush(path.parent)
    return path


def _remove(folder: Path) -> None:
    """Remove a folder, or the link that stands for it, if there is one."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _flush(path: Path) -> None:
    """Have the system write a file's content, or a folder's entries, to the disk.

    Does nothing about folders where they can't be opened (Windows).
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
