"""Times of any usual kind to int64 microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.iso import parse_iso
from tasks.data.readers.report import TimeUnit, TimeUnitChoice
from tasks.data.readers.units import MAX_ODD_SHARE, detect_scale

MAX_MICROSECONDS = 4_102_444_800_000_000
"""2100-01-01: a later time means a wrong unit or damage."""

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Times:
    """Parsed times.

    Attributes:
        micros: int64 microseconds since the epoch; null where the value can't be used.
        unit: Unit found or stated.
        expected: What a usable value is, in words.
        warnings: Things to state.
    """

    micros: pl.Series
    unit: TimeUnit
    expected: str = "a time from 1970 to 2100"
    warnings: tuple[str, ...] = ()


def parse_times(values: pl.Series, unit: TimeUnitChoice, label: str) -> Times:
    """Convert a time column.

    Numbers are in the unit stated, or in the one their size shows (s, ms, us or ns); text is ISO
    8601, without a zone taken as UTC. Values that can't be read, lie before 1970 or after 2100
    become null.

    Args:
        values: Text, numbers or datetimes; null stays null.
        unit: Unit of numbers, ``iso`` for text, or ``auto``.
        label: File and column, for messages.

    Raises:
        DataError: Units are mixed, or not a single value can be read.
    """
    if values.dtype.is_temporal():
        return Times(_in_range(_from_temporal(values, label)), "datetime")
    if values.dtype.is_numeric() and not values.dtype.is_float():
        integers, floats = values.cast(pl.Int64, strict=False), None
    elif values.dtype.is_numeric():
        integers, floats = None, values.cast(pl.Float64)
    elif values.dtype == pl.String:
        integers, floats = _parse_numbers(values)
    else:
        raise DataError(f"{label} holds {values.dtype}; expected numbers, dates or text.")
    numbers = _merge(integers, floats)
    has_text = values.dtype == pl.String and numbers.null_count() > values.null_count()
    iso = parse_iso(values.set(numbers.is_not_null(), None)) if has_text else None
    num_iso = len(iso) - iso.null_count() if iso is not None else 0
    num_numbers = len(numbers) - numbers.null_count()
    if unit == "iso" or (unit == "auto" and num_iso > num_numbers):
        return _finish_iso(values, iso, num_numbers, label, unit)
    if num_numbers == 0:
        raise _unreadable(values, label)
    if unit != "auto":
        micros = _to_micros(integers, floats, unit)
        return Times(micros, unit, f"a number of {unit} from 1970 to 2100")
    scale = detect_scale(values, numbers, num_iso, label)
    micros = _to_micros(integers, floats, scale.unit)
    if scale.num_outside:
        inside = (numbers >= scale.low) & (numbers < scale.high)
        micros = micros.set(~inside.fill_null(False), None)
    return Times(micros, scale.unit, scale.expected, scale.warnings)


def _from_temporal(values: pl.Series, label: str) -> pl.Series:
    if values.dtype == pl.Time or values.dtype == pl.Duration:
        raise DataError(
            f"{label} holds {values.dtype}, which is no point in time; expected dates, ISO 8601 "
            "text or numbers since 1970. Name another column in data.time_column."
        )
    return values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).cast(pl.Int64)


def _in_range(micros: pl.Series) -> pl.Series:
    valid = (micros >= 0) & (micros < MAX_MICROSECONDS)
    return micros.set(~valid.fill_null(False), None)


def _parse_numbers(values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """Return whole numbers, and all numbers as float where some are not whole."""
    integers = values.cast(pl.Int64, strict=False)
    if integers.null_count() == values.null_count():
        return integers, None
    texts = values.filter(integers.is_null() & values.is_not_null())
    numbers = texts.str.strip_chars().cast(pl.Float64, strict=False)
    if not numbers.is_finite().any():
        return integers, None
    floats = values.str.strip_chars().cast(pl.Float64, strict=False)
    return integers, floats.set(~floats.is_finite().fill_null(True), None)


def _merge(integers: pl.Series | None, floats: pl.Series | None) -> pl.Series:
    if integers is None or floats is None:
        return integers if floats is None else floats
    return floats


def _to_micros(integers: pl.Series | None, floats: pl.Series | None, unit: str) -> pl.Series:
    """Scale numbers to microseconds; exact for whole numbers, null where out of range."""
    if floats is None:
        limit = MAX_MICROSECONDS * 1000 if unit == "ns" else MAX_MICROSECONDS // MICROSECONDS[unit]
        inside = integers.set(~((integers >= 0) & (integers < limit)).fill_null(False), None)
        return inside // 1000 if unit == "ns" else inside * MICROSECONDS[unit]
    factor = 0.001 if unit == "ns" else MICROSECONDS[unit]
    scaled = (floats * factor).round()
    inside = ((scaled >= 0) & (scaled < MAX_MICROSECONDS)).fill_null(False)
    exact = scaled.set(~inside, None).cast(pl.Int64)
    if integers is None:
        return exact
    whole = _to_micros(integers, None, unit)
    return whole.zip_with(integers.is_not_null(), exact)


def _finish_iso(
    values: pl.Series, iso: pl.Series | None, num_numbers: int, label: str, unit: str
) -> Times:
    if iso is None or iso.null_count() == len(iso):
        raise _unreadable(values, label)
    if unit == "auto" and num_numbers > MAX_ODD_SHARE * len(values):
        raise DataError(
            f"{label} mixes ISO 8601 text with {num_numbers} plain numbers. Write all times in "
            "one form, or set data.time_unit=iso: numbers are then set aside."
        )
    zoned = values.str.contains(r"(?:Z|UTC|[+-]\d{2}:?\d{2})$") & values.str.contains(":")
    num_zoned = int((zoned & iso.is_not_null()).sum())
    num_read = len(iso) - iso.null_count()
    warnings: tuple[str, ...] = ()
    if 0 < num_zoned < num_read:
        warnings = (f"{label}: {num_read - num_zoned} times without a zone are taken as UTC.",)
    return Times(_in_range(iso), "iso", warnings=warnings)


def _unreadable(values: pl.Series, label: str) -> DataError:
    present = values.drop_nulls()
    example = shorten(present[0]) if len(present) else "nothing"
    return DataError(
        f"{label} holds no time that can be read (first value: {example}). Expected seconds, "
        "milliseconds or microseconds since 1970, or ISO 8601 such as 2015-06-09T19:39:37Z. Is it "
        "the right column? Set data.time_column."
    )
