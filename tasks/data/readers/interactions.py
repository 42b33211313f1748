"""Read an interaction log of any supported format into one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.data.readers.columns import SETTING
from tasks.data.readers.delimited import read_delimited
from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.jsonlines import read_json_lines
from tasks.data.readers.packing import MAX_UNPACKED_BYTES, RawLog, open_log
from tasks.data.readers.parquet import read_parquet
from tasks.data.readers.report import (
    FormatChoice,
    RawTable,
    ReadReport,
    Role,
    TimeUnitChoice,
)
from tasks.data.readers.rows import separate_rows
from tasks.data.readers.times import parse_times

SUFFIX_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


def read_interactions(
    path: str | Path,
    *,
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str = "timestamp",
    rating_column: str = "rating",
    format: FormatChoice = "auto",
    separator: str = "auto",
    time_unit: TimeUnitChoice = "auto",
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> tuple[pl.DataFrame, ReadReport]:
    """Read a log of interactions: CSV, TSV, JSON lines, Parquet, ``.inter``, ``.dat``; gz, zip.

    Args:
        path: The file, or ``archive.zip::member``.
        user_column: Column of the user. The default also finds ``userId``, ``session``, ...
        item_column: Column of the item. The default also finds ``movieId``, ``aid``, ...
        time_column: Column of the time. The default also finds ``ts``, ``date``, ...
        rating_column: Column of a rating; optional under its default name.
        format: Format of the file, or ``auto`` to decide by its content.
        separator: Text between columns, or ``auto``.
        time_unit: Unit of numeric times, ``iso`` for text, or ``auto`` to detect it.
        max_unpacked_bytes: Largest unpacked size accepted of a packed file.

    Returns:
        The usable rows in file order: ``user_id`` and ``item_id`` (text as in the file, without
        surrounding blanks), ``timestamp`` (int64 microseconds since 1970 UTC), ``rating``
        (float64, only where the file has one, null where it is empty), ``row`` (int64, number of
        the data row in the file, from 0). And what was detected, with the rows left out.

    Raises:
        DataError: The file can't be read as a log; the message says where and what to do.
    """
    requested: dict[Role, str] = {
        "user_id": user_column,
        "item_id": item_column,
        "timestamp": time_column,
        "rating": rating_column,
    }
    for role, name in requested.items():
        if not name and role != "rating":
            raise DataError(f"{SETTING[role]} is empty; expected the name of a column.")
    log = open_log(path, max_bytes=max_unpacked_bytes)
    table = read_table(log, format=format, separator=separator, requested=requested)
    return _finish(log, table, time_unit)


def read_table(
    log: RawLog, *, format: FormatChoice, separator: str, requested: Mapping[Role, str]
) -> RawTable:
    """Split a log into its columns with the reader its content or ``format`` calls for."""
    head = log.head()
    is_parquet = head.startswith(b"PAR1")
    if format == "parquet" or (format == "auto" and is_parquet):
        if not is_parquet:
            raise DataError(f"{log.label} is no Parquet file. Set data.format to auto.")
        return read_parquet(log, requested=requested)
    if is_parquet:
        raise DataError(f"{log.label} is a Parquet file, not {format}. Set data.format to auto.")
    suffix = Path(log.inner_name).suffix
    looks_json = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    if format == "jsonl" or (format == "auto" and (looks_json or suffix in SUFFIX_FORMATS)):
        return read_json_lines(log, requested=requested)
    if format == "auto" and suffix == ".inter":
        format = "inter"
    return read_delimited(log, format=format, separator=separator, requested=requested)


def _finish(
    log: RawLog, table: RawTable, time_unit: TimeUnitChoice
) -> tuple[pl.DataFrame, ReadReport]:
    """Parse the times, separate the rows that can't be used, and report."""
    label = f"{log.label}, column {table.columns['timestamp']!r}"
    times = parse_times(_blank_to_null(table.frame["timestamp"]), time_unit, label)
    usable, unparsed = separate_rows(table, times)
    num_rows = len(usable) + len(unparsed)
    if usable.is_empty():
        first = unparsed.row(0, named=True)
        where = f"line {first['line']}" if first["line"] else f"row {first['row'] + 1}"
        raise DataError(
            f"{log.label}: none of its {num_rows} rows can be used; {where}: {first['reason']} "
            f"(it reads {shorten(first['text'])}). Check the column settings."
        )
    report = ReadReport(
        path=log.path,
        member=log.member,
        compression=log.compression,
        format=table.format,
        separator=table.separator,
        encoding=table.encoding,
        has_header=table.has_header,
        columns=dict(table.columns),
        found_columns=table.found_columns,
        time_unit=times.unit,
        num_rows=num_rows,
        num_blank_lines=table.num_blank_lines,
        unparsed=unparsed,
        warnings=(*log.notes, *table.warnings, *times.warnings),
    )
    return usable, report


def _blank_to_null(values: pl.Series) -> pl.Series:
    if values.dtype != pl.String:
        return values
    return values.set((values == "").fill_null(False), None) if (values == "").any() else values
