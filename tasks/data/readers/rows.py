"""Which rows of a log can be used, and why the others can't."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tasks.data.readers.report import UNPARSED_SCHEMA, RawTable, Role
from tasks.data.readers.text import REPLACEMENT
from tasks.data.readers.times import Times

MISSING = ("nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "<NA>", "\\N")
"""Texts that stand for a missing id, besides an empty one."""

MAX_ID_BYTES = 65_536
IDS: tuple[Role, ...] = ("user_id", "item_id")
Fault = tuple[pl.Expr, pl.Expr]
"""What is true of an unusable row, and the reason to give."""


def separate_rows(table: RawTable, times: Times) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the usable rows with the declared columns, and the others with their reasons.

    Args:
        table: A log split into columns.
        times: Its parsed times.
    """
    frame = table.frame
    decimal_comma = table.separator == ";"
    columns: list[pl.Expr] = [
        pl.col("user_id").str.strip_chars(),
        pl.col("item_id").str.strip_chars(),
        pl.lit(times.micros).alias("timestamp"),
        pl.col("row"),
    ]
    if "rating" in frame.columns:
        columns.insert(3, _to_rating(frame.schema["rating"], decimal_comma))
    if _is_clean(table, times):
        columns[:2] = [pl.col(role) for role in IDS]
        usable = frame.select(columns)
        if "rating" not in frame.columns or usable["rating"].is_finite().all(ignore_nulls=False):
            return usable, table.broken
    reasons = _find_reasons(table, times, decimal_comma)
    is_usable = reasons.is_null()
    usable = frame.select(columns)
    if is_usable.all():
        return usable, table.broken
    return usable.filter(is_usable), _collect_unparsed(table, reasons, is_usable)


def _is_clean(table: RawTable, times: Times) -> bool:
    """Tell quickly, from distinct ids, that nothing but ratings can be wrong with any row."""
    frame = table.frame
    if times.micros.null_count() or ("is_wide" in frame.columns and frame["is_wide"].any()):
        return False
    for role in IDS:
        distinct = frame.select(pl.col(role).unique())
        text = pl.col(role)
        fault = _first_fault(_id_faults(role, "", table.is_lossy))
        padded = (text.str.strip_chars() != text).fill_null(True)
        if distinct.select((fault.is_not_null() | padded).any()).item():
            return False
    return True


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
    faults: list[Fault] = []
    if "is_wide" in frame.columns:
        faults.append((pl.col("is_wide"), pl.lit(f"more than {len(table.found_columns)} fields")))
    for role in IDS:
        faults += _id_faults(role, names[role], table.is_lossy)
    time = pl.col("timestamp")
    is_absent = time.is_null()
    if frame.schema["timestamp"] == pl.String:
        is_absent = is_absent | (time.str.strip_chars() == "")
    faults.append((is_absent, pl.lit(f"{names['timestamp']} is missing")))
    value = time.cast(pl.String, strict=False).str.slice(0, 60)
    text = pl.format("{} '{}' is not {}", pl.lit(names["timestamp"]), value, pl.lit(times.expected))
    faults.append((pl.col("micros").is_null(), text))
    if "rating" in frame.columns:
        faults.append(_rating_fault(frame.schema["rating"], names["rating"], decimal_comma))
    return frame.select(reason=_first_fault(faults))["reason"]


def _first_fault(faults: Sequence[Fault]) -> pl.Expr:
    return pl.coalesce([pl.when(condition).then(reason) for condition, reason in faults])


def _id_faults(role: Role, name: str, is_lossy: bool) -> list[Fault]:
    text = pl.col(role).str.strip_chars()
    faults = [
        (pl.col(role).is_null() | (text == ""), pl.lit(f"{name} is missing")),
        (text.is_in(MISSING), pl.format("{} is '{}'", pl.lit(name), text)),
        (
            text.str.len_bytes() > MAX_ID_BYTES,
            pl.lit(f"{name} is longer than {MAX_ID_BYTES} bytes"),
        ),
        (text.str.contains("\0", literal=True), pl.lit(f"{name} holds a NUL character")),
    ]
    if is_lossy:
        is_damaged = text.str.contains(REPLACEMENT, literal=True)
        faults.append((is_damaged, pl.lit(f"{name} is not valid UTF-8")))
    return faults


def _rating_fault(dtype: pl.DataType, name: str, decimal_comma: bool) -> Fault:
    number = _to_rating(dtype, decimal_comma)
    given = pl.col("rating").is_not_null()
    if dtype == pl.String:
        given = given & (pl.col("rating").str.strip_chars() != "")
    value = pl.col("rating").cast(pl.String, strict=False).str.slice(0, 60)
    is_bad = given & ~number.is_finite().fill_null(False)
    return is_bad, pl.format("{} '{}' is no number", pl.lit(name), value)


def _collect_unparsed(table: RawTable, reasons: pl.Series, is_usable: pl.Series) -> pl.DataFrame:
    bad = pl.DataFrame({"row": table.frame["row"], "reason": reasons}).filter(~is_usable)
    places = table.locate(bad["row"].to_list())
    located = bad.with_columns(
        line=pl.Series([line for line, _ in places], dtype=pl.Int64),
        text=pl.Series([text for _, text in places], dtype=pl.String),
    ).select(*UNPARSED_SCHEMA)
    return pl.concat([table.broken, located]).sort("row")
