"""The folder ``data/raw``: one log and ``source.json``, which says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.data.fetch import ChecksumError, hash_file
from tasks.data.readers import DataError, ReadReport, read_interactions

RECORD_NAME = "source.json"


def write_record(folder: Path, log: Path, facts: Mapping[str, object]) -> dict:
    """Write ``source.json`` beside a log and return its content.

    Args:
        folder: ``data/raw``.
        log: The log, a file directly in ``folder``.
        facts: ``source``, ``title``, ``licence``, ``origin``, ``member`` and ``reading``.
    """
    record = {
        **facts,
        "file": log.name,
        "sha256": hash_file(log),
        "size": log.stat().st_size,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8")
    return record


def read_record(folder: Path) -> dict:
    """Read ``source.json``.

    Raises:
        DataError: It is missing or damaged.
    """
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["file"], str) or Path(record["file"]).name != record["file"]:
            raise ValueError("its entry 'file' is no file name")
        if not isinstance(record["sha256"], str) or not isinstance(record["reading"], dict):
            raise ValueError("an entry has the wrong type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} can't be read ({type(error).__name__}: {error}). "
            "Run the fetch stage first: python -m tasks fetch."
        ) from error
    return record


def find_raw_log(folder: Path, reading: Mapping[str, str]) -> tuple[Path | str, dict[str, str]]:
    """Return the log that the fetch stage left, and the arguments of `read_interactions` for it.

    Args:
        folder: ``data/raw``.
        reading: Arguments of ``read_interactions`` for a user's own file (columns, format, time
            unit); a named source brings its own and these are not used.

    Raises:
        ChecksumError: The log is not the one that was fetched.
        DataError: The folder is incomplete.
    """
    record = read_record(folder)
    log = folder / record["file"]
    if not log.is_file() or (found := hash_file(log)) != record["sha256"]:
        state = f"has SHA-256 {found[:12]}..." if log.is_file() else "is missing"
        raise ChecksumError(
            f"{log} {state}; {RECORD_NAME} says {record['sha256'][:12]}.... It was changed after "
            "the fetch stage: run that stage again."
        )
    path = f"{log}::{record['member']}" if record.get("member") else log
    return path, record["reading"] or dict(reading)


def read_raw_log(folder: Path, reading: Mapping[str, str]) -> tuple[pl.DataFrame, ReadReport]:
    """Read the log that the fetch stage left; see `find_raw_log`.

    Raises:
        DataError: The folder is incomplete, or the log can't be read.
    """
    path, arguments = find_raw_log(folder, reading)
    return read_interactions(path, **arguments)
