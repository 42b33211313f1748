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
    UNPARSED_SCHEMA,
    FormatChoice,
    RawTable,
    ReadReport,
    Role,
    TimeUnitChoice,
)
from tasks.data.readers.text import REPLACEMENT
from tasks.data.readers.times import Times, parse_times

MISSING = ("nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "<NA>", "\\N")
"""Texts that stand for a missing id, besides an empty one."""

MAX_ID_BYTES = 65_536
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
    """Check ids, times and ratings, and separate the rows that fail."""
    label = f"{log.label}, column {table.columns['timestamp']!r}"
    frame = table.frame
    times = parse_times(_blank_to_null(frame["timestamp"]), time_unit, label)
    decimal_comma = table.separator == ";"
    reasons = _find_reasons(table, times, decimal_comma)
    num_rows = len(frame) + len(table.broken)
    columns = [
        _strip("user_id"),
        _strip("item_id"),
        times.micros.alias("timestamp"),
        *([_to_rating(frame.schema["rating"], decimal_comma)] if "rating" in frame.columns else []),
        pl.col("row"),
    ]
    is_usable = reasons.is_null()
    usable = frame.select(columns)
    unparsed = table.broken
    if not is_usable.all():
        usable = usable.filter(is_usable)
        unparsed = _collect_unparsed(table, reasons, is_usable)
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


def _strip(role: str) -> pl.Expr:
    return pl.col(role).str.strip_chars()


def _to_rating(dtype: pl.DataType, decimal_comma: bool) -> pl.Expr:
    rating = pl.col("rating")
    if dtype == pl.String:
        rating = rating.str.strip_chars()
        rating = rating.str.replace(",", ".", literal=True) if decimal_comma else rating
    return rating.cast(pl.Float64, strict=False).alias("rating")


def _find_reasons(table: RawTable, times: Times, decimal_comma: bool) -> pl.Series:
    """Return why each row can't be used, null for usable rows; the first fault found counts."""
    frame = table.frame.with_columns(micros=times.micros)
    names = table.columns
    chain = pl.when(pl.lit(False)).then(pl.lit(""))
    if "is_wide" in frame.columns:
        chain = chain.when(pl.col("is_wide")).then(
            pl.lit(f"more than {len(table.found_columns)} fields")
        )
    for role in ("user_id", "item_id"):
        chain = _judge_id(chain, role, names[role], table.is_lossy)
    time = pl.col("timestamp")
    is_absent = time.is_null()
    if frame.schema["timestamp"] == pl.String:
        is_absent = is_absent | (time.str.strip_chars() == "")
    value = time.cast(pl.String, strict=False).str.slice(0, 60)
    chain = chain.when(is_absent).then(pl.lit(f"{names['timestamp']} is missing"))
    chain = chain.when(pl.col("micros").is_null()).then(
        pl.format(
            "{} '{}' is not {}",
            pl.lit(names["timestamp"]),
            value,
            pl.lit(times.expected),
        )
    )
    if "rating" in frame.columns:
        chain = _judge_rating(chain, frame.schema["rating"], names["rating"], decimal_comma)
    return frame.select(reason=chain.otherwise(None))["reason"]


def _judge_id(chain: pl.Expr, role: str, name: str, is_lossy: bool) -> pl.Expr:
    text = pl.col(role).str.strip_chars()
    chain = chain.when(pl.col(role).is_null() | (text == "")).then(pl.lit(f"{name} is missing"))
    chain = chain.when(text.is_in(MISSING)).then(pl.format("{} is '{}'", pl.lit(name), text))
    chain = chain.when(text.str.len_bytes() > MAX_ID_BYTES).then(
        pl.lit(f"{name} is longer than {MAX_ID_BYTES} bytes")
    )
    chain = chain.when(text.str.contains("\0", literal=True)).then(
        pl.lit(f"{name} holds a NUL character")
    )
    if is_lossy:
        chain = chain.when(text.str.contains(REPLACEMENT, literal=True)).then(
            pl.lit(f"{name} is not valid UTF-8")
        )
    return chain


def _judge_rating(chain: pl.Expr, dtype: pl.DataType, name: str, decimal_comma: bool) -> pl.Expr:
    number = _to_rating(dtype, decimal_comma)
    given = pl.col("rating").is_not_null()
    if dtype == pl.String:
        given = given & (pl.col("rating").str.strip_chars() != "")
    is_bad = given & ~(number.is_finite().fill_null(False))
    value = pl.col("rating").cast(pl.String, strict=False).str.slice(0, 60)
    return chain.when(is_bad).then(pl.format("{} '{}' is no number", pl.lit(name), value))


def _collect_unparsed(table: RawTable, reasons: pl.Series, is_usable: pl.Series) -> pl.DataFrame:
    bad = pl.DataFrame({"row": table.frame["row"], "reason": reasons}).filter(~is_usable)
    places = table.locate(bad["row"].to_list())
    located = bad.with_columns(
        line=pl.Series([line for line, _ in places], dtype=pl.Int64),
        text=pl.Series([text for _, text in places], dtype=pl.String),
    ).select(*UNPARSED_SCHEMA)
    return pl.concat([table.broken, located]).sort("row")
