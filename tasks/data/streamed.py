"""Reads a log that is too large for memory: piece by piece into integers on the disk."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.data.coded import CodedLog
from tasks.data.events import EVENT_DTYPES, Events, list_raw_ids, to_events
from tasks.data.pieces import Kind, Piece, cut
from tasks.data.readers import DataError, ReadReport, read_interactions
from tasks.data.schema import QUARANTINE, split_valid

EVENT_NAMES = ("users", "items", "times", "rows")
RATINGS = "ratings"


@dataclass(frozen=True)
class StreamedLog:
    """A log on disk.

    Attributes:
        coded: Its usable rows.
        report: What was detected, over all pieces.
        quarantine: Its unusable rows, with the columns of ``QUARANTINE``.
    """

    coded: CodedLog
    report: ReadReport
    quarantine: pl.DataFrame


@contextmanager
def read_streamed(
    path: Path, kind: Kind, reading: Mapping[str, Any], folder: Path, *, size: int = 0
) -> Iterator[StreamedLog]:
    """Read a log in pieces; what lies in ``folder`` meanwhile is removed at the end.

    Layout, columns and unit of the times are those of the first piece; rows of later ones that
    don't fit them are unusable.

    Args:
        path: The log.
        kind: How it can be cut.
        reading: Arguments of `read_interactions`.
        folder: Folder of its own; about 70 bytes per event are needed.
        size: Bytes of text or rows of Parquet in a piece; 0 takes the usual.

    Raises:
        DataError: The log can't be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        parts = folder / "parts"
        parts.mkdir(parents=True)
        report, quarantine, ids = _read_pieces(path, kind, reading, parts, size)
        yield StreamedLog(_code(parts, folder, ids), report, quarantine)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_pieces(
    path: Path, kind: Kind, reading: Mapping[str, Any], parts: Path, size: int
) -> tuple[ReadReport, pl.DataFrame, dict[str, pl.Series]]:
    """Write usable rows as Parquet, one file per piece; returns what is known of all."""
    reports: list[ReadReport] = []
    unusable = [pl.DataFrame(schema=QUARANTINE)]
    ids = {name: pl.Series(name, dtype=pl.String) for name in ("user_id", "item_id")}
    has_header = kind == "text" and _has_header(path, reading, parts)
    for number, piece in enumerate(cut(path, kind, parts, size=size, has_header=has_header)):
        arguments = reading if not reports else _as_before(reports[0])
        frame, report = _read(piece, arguments)
        frame, invalid = split_valid(frame)
        shift = pl.col("row", "line") + piece.first_row
        unparsed = report.unparsed.with_columns(shift)
        reports.append(dataclasses.replace(report, unparsed=unparsed))
        unusable += [unparsed.select(*QUARANTINE), invalid.with_columns(shift)]
        for name, known in ids.items():
            ids[name] = pl.concat([known, frame[name].unique()]).unique()
        frame = frame.with_columns(pl.col("row") + piece.first_row)
        frame.write_parquet(parts / f"{number:06d}.parquet", compression="lz4")
    if not reports:
        raise DataError(f"{path.name} has a header but no data rows. Write or download it again.")
    return _merge(reports, path), pl.concat(unusable).sort("row"), ids


def _read(piece: Piece, reading: Mapping[str, Any]) -> tuple[pl.DataFrame, ReadReport]:
    try:
        return read_interactions(piece.path, **reading)
    except DataError as error:
        if not piece.first_row:
            raise
        raise DataError(f"In the part from data row {piece.first_row + 1} on: {error}") from error


def _has_header(path: Path, reading: Mapping[str, Any], folder: Path) -> bool:
    """Whether the first line names the columns, found out from the beginning of the log."""
    sample = folder / path.name
    with path.open("rb") as file:
        sample.write_bytes(file.read(2**20) + file.readline())
    try:
        return read_interactions(sample, **reading)[1].has_header
    finally:
        sample.unlink()


def _as_before(report: ReadReport) -> dict[str, Any]:
    """Arguments that read a piece as the first one was read."""
    arguments: dict[str, Any] = {"format": report.format, "rating_column": ""}
    if report.separator:
        arguments["separator"] = report.separator
    if report.time_unit != "datetime":
        arguments["time_unit"] = report.time_unit
    argument_of = {"user_id": "user", "item_id": "item", "timestamp": "time", "rating": "rating"}
    for role, name in report.columns.items():
        arguments[f"{argument_of[role]}_column"] = name
    return arguments


def _merge(reports: list[ReadReport], path: Path) -> ReadReport:
    first = reports[0]
    encodings = dict.fromkeys(report.encoding for report in reports)
    warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
    return dataclasses.replace(
        first,
        path=path,
        num_rows=sum(report.num_rows for report in reports),
        num_blank_lines=sum(report.num_blank_lines for report in reports),
        encoding=", ".join(encodings),
        unparsed=pl.concat(report.unparsed for report in reports),
        warnings=tuple(warnings),
    )


def _code(parts: Path, folder: Path, ids: Mapping[str, pl.Series]) -> CodedLog:
    """Write the integers of all pieces end to end, and forget the pieces."""
    user_ids, item_ids = list_raw_ids(ids["user_id"]), list_raw_ids(ids["item_id"])
    num_rows, has_ratings = 0, False
    for path in sorted(parts.glob("*.parquet")):
        frame = pl.read_parquet(path)
        events = to_events(frame, user_ids, item_ids)
        for name, dtype in zip(EVENT_NAMES, EVENT_DTYPES, strict=True):
            _append(folder / name, getattr(events, name).astype(dtype, copy=False))
        if "rating" in frame.columns:
            has_ratings = True
            _append(folder / RATINGS, frame["rating"].fill_null(np.nan).to_numpy())
        num_rows += len(frame)
        path.unlink()

    def read_events() -> Events:
        pairs = zip(EVENT_NAMES, EVENT_DTYPES, strict=True)
        return Events(*(np.memmap(folder / name, dtype, mode="r") for name, dtype in pairs))

    def read_ratings() -> pl.Series:
        return pl.Series(np.fromfile(folder / RATINGS, np.float64)).fill_nan(None)

    return CodedLog(
        user_ids, item_ids, num_rows, read_events, read_ratings if has_ratings else None
    )


def _append(path: Path, array: np.ndarray) -> None:
    with path.open("ab") as file:
        array.tofile(file)
