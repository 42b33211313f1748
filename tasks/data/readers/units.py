"""Which unit numbers that stand for times are in."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.report import TimeUnit

MAX_ODD_SHARE = 0.01
"""Share of values in another unit than the rest up to which they are set aside as damaged."""


class Scale(NamedTuple):
    """What numbers of one size are taken for.

    Attributes:
        unit: Unit.
        low: Smallest number in it.
        high: Bound above.
        expected: A usable number, in words.
        num_outside: Numbers outside the bounds.
        warnings: Things to state.
    """

    unit: TimeUnit
    low: float
    high: float
    expected: str
    num_outside: int = 0
    warnings: tuple[str, ...] = ()


# 1e8 s, 1e11 ms, 1e14 us and 1e17 ns all are March 1973, and 1e11 s is the year 5138: between 1973
# and then the size of a number shows its unit. Smaller ones are positions or damage.
SCALES = (
    Scale("s", 0, 1e8, "a position or counter below 100,000,000"),
    Scale("s", 1e8, 1e11, "a number of seconds from 1973 to 2100"),
    Scale("ms", 1e11, 1e14, "a number of milliseconds from 1973 to 2100"),
    Scale("us", 1e14, 1e17, "a number of microseconds from 1973 to 2100"),
    Scale("ns", 1e17, 4.2e18, "a number of nanoseconds from 1973 to 2100"),
)
POSITIONS = SCALES[0]


def detect_scale(values: pl.Series, numbers: pl.Series, num_iso: int, label: str) -> Scale:
    """Find the scale most numbers are on.

    Numbers on another scale are damage up to 1 % of all values, and mixed units above that;
    numbers too small for a time are damage whatever their share.

    Args:
        values: The column as it is in the file, for messages.
        numbers: The same as numbers, null where it is none; at least one is not.
        num_iso: Values that are ISO 8601 text instead.
        label: File and column, for messages.

    Raises:
        DataError: Units are mixed.
    """
    low, high = numbers.min(), numbers.max()
    for scale in SCALES:
        if num_iso == 0 and scale.low <= low and high < scale.high:
            return scale._replace(warnings=_warn_positions(high, label, scale))
    counts = [int(((numbers >= s.low) & (numbers < s.high)).sum()) for s in SCALES]
    main = SCALES[max(range(len(SCALES)), key=counts.__getitem__)]
    found = [
        f"{count} in {scale.unit}"
        for scale, count in zip(SCALES, counts, strict=True)
        if count and scale is not POSITIONS
    ]
    found += [f"{num_iso} as ISO 8601"] if num_iso else []
    num_inside = max(counts)
    num_numbers = len(numbers) - numbers.null_count()
    num_early = counts[0] if main is not POSITIONS else 0
    num_odd = sum(counts) - num_inside - num_early + num_iso
    num_set_aside = num_numbers - num_inside + num_iso
    is_odd = ~((numbers >= main.low) & (numbers < main.high)).fill_null(False)
    is_odd &= values.is_not_null()
    row = int(is_odd.arg_max() or 0)
    example = f"data row {row + 1} holds {shorten(values[row])}"
    if num_odd > MAX_ODD_SHARE * len(values):
        found = [f"{counts[0]} positions", *found] if main is POSITIONS else found
        raise DataError(
            f"{label} mixes time units ({', '.join(found)}; {example}). Write all times in one "
            "unit, or set data.time_unit: values that don't fit are then set aside."
        )
    warning = (
        f"{label}: {num_set_aside} of {len(values)} values are not {main.expected} ({example})."
    )
    return main._replace(num_outside=num_set_aside, warnings=(warning,))


def _warn_positions(largest: float, label: str, scale: Scale) -> tuple[str, ...]:
    if scale is not POSITIONS:
        return ()
    return (
        f"{label}: the largest value is {largest:g}, so these look like positions or counters, "
        "not times; they are taken as seconds, which keeps their order.",
    )
