"""Times of any usual kind to int64 microseconds since 1970-01-01 UTC."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.iso import parse_iso
from tasks.data.readers.report import TimeUnit, TimeUnitChoice

MAX_MICROSECONDS = 4_102_444_800_000_000
"""2100-01-01: a later time means a wrong unit or damage."""

UNIT_BOUNDS: tuple[tuple[TimeUnit, float], ...] = (
    ("s", 1e11),
    ("ms", 1e14),
    ("us", 1e17),
    ("ns", 4.2e18),
)
"""Upper bounds of a unit's numbers: 1e11 s is the year 5138 and 1e11 ms is March 1973."""

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
POSITION_BOUND = 100_000_000
"""Numbers that all lie below this (March 1973 in seconds) are positions rather than times."""

MAX_ODD_SHARE = 0.01
"""Share of rows in another unit than the rest up to which they are set aside as damaged."""


@dataclass(frozen=True)
class Times:
    """Parsed times.

    Attributes:
        micros: int64 microseconds since the epoch; null where the value can't be used.
        unit: Unit found or stated.
        warnings: Things to state.
    """

    micros: pl.Series
    unit: TimeUnit
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
        _raise_unreadable(values, label)
    warnings: tuple[str, ...] = ()
    usable = pl.lit(True)
    if unit == "auto":
        unit, usable, warnings = _detect_unit(values, numbers, num_iso, label)
    micros = _to_micros(integers, floats, unit)
    return Times(_in_range(_keep(micros, usable, numbers)), unit, warnings)


def _from_temporal(values: pl.Series, label: str) -> pl.Series:
    if values.dtype == pl.Time or values.dtype == pl.Duration:
        raise DataError(f"{label} holds {values.dtype}, which is no point in time.")
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


def _keep(micros: pl.Series, usable: pl.Expr, numbers: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"micros": micros, "number": numbers})
    return frame.select(pl.when(usable).then("micros"))["micros"]


def _unit_of(number: pl.Expr) -> pl.Expr:
    """Unit whose range holds a number; null for numbers that tell nothing (0, negative, huge)."""
    chain = pl.when(number <= 0).then(None)
    for name, bound in UNIT_BOUNDS:
        chain = chain.when(number < bound).then(pl.lit(name))
    return chain.otherwise(None)


def _detect_unit(
    values: pl.Series, numbers: pl.Series, num_iso: int, label: str
) -> tuple[TimeUnit, pl.Expr, tuple[str, ...]]:
    """Return the unit, an expression on ``number`` that is true for rows in it, and warnings."""
    largest = numbers.max()
    low = numbers.filter(numbers > 0).min()
    if num_iso == 0 and low is not None and largest < UNIT_BOUNDS[0][1]:
        return "s", pl.lit(True), _warn_positions(largest, label)
    number = pl.col("number")
    units = pl.DataFrame({"number": numbers}).select(unit=_unit_of(number))["unit"]
    counts = units.drop_nulls().value_counts(sort=True)
    if counts.is_empty():
        return "s", pl.lit(True), ()
    unit, num_main = counts.row(0)
    num_odd = int(counts["count"].sum()) - num_main + num_iso
    if num_odd == 0:
        return unit, pl.lit(True), ()
    is_odd = (units != unit).fill_null(False) | (numbers.is_null() & values.is_not_null())
    example = values.filter(is_odd)[0]
    row = int(is_odd.arg_max())
    what = f"{num_odd} of {len(values)} values are in another unit than {unit}"
    if num_odd > MAX_ODD_SHARE * len(values):
        found = ", ".join(f"{count} in {name}" for name, count in counts.iter_rows())
        found += f", {num_iso} as ISO 8601" if num_iso else ""
        raise DataError(
            f"{label} mixes time units ({found}; data row {row + 1} holds {shorten(example)}). "
            "Write all times in one unit, or set data.time_unit: values that don't fit are then "
            "set aside."
        )
    warning = f"{label}: {what} (first: {shorten(example)}, data row {row + 1}); set aside."
    return unit, _unit_of(number).fill_null(pl.lit(unit)) == unit, (warning,)


def _warn_positions(largest: float, label: str) -> tuple[str, ...]:
    if largest >= POSITION_BOUND:
        return ()
    return (
        f"{label}: the largest value is {largest:g}, so these look like positions or counters, "
        "not times; they are taken as seconds, which keeps their order.",
    )


def _finish_iso(
    values: pl.Series, iso: pl.Series | None, num_numbers: int, label: str, unit: str
) -> Times:
    if iso is None or iso.null_count() == len(iso):
        _raise_unreadable(values, label)
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
    return Times(_in_range(iso), "iso", warnings)


def _raise_unreadable(values: pl.Series, label: str) -> None:
    present = values.drop_nulls()
    example = shorten(present[0]) if len(present) else "nothing"
    raise DataError(
        f"{label} holds no time that can be read (first value: {example}). Expected seconds, "
        "milliseconds or microseconds since 1970, or ISO 8601 such as 2015-06-09T19:39:37Z. Is it "
        "the right column? Set data.time_column."
    )
