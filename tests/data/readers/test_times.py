"""Times: units, ISO 8601, exactness."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.readers import DataError
from tasks.data.readers.iso import parse_iso
from tasks.data.readers.times import parse_times
from tasks.data.readers.units import SCALES

MOMENT = datetime(2015, 6, 9, 19, 39, 37, tzinfo=UTC)
MICROS = int(MOMENT.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (str(MICROS // 1_000_000), "s"),
        (str(MICROS // 1_000), "ms"),
        (str(MICROS), "us"),
        (str(MICROS * 1000), "ns"),
        (f"{MICROS // 1_000_000}.0", "s"),
        ("1.433878777e9", "s"),
        ("2015-06-09T19:39:37Z", "iso"),
        ("2015-06-09 19:39:37", "iso"),
        ("2015-06-09T21:39:37+02:00", "iso"),
        ("2015-06-09 21:39:37+0200", "iso"),
        ("2015-06-09T14:09:37-05:30", "iso"),
        ("2015-06-09T19:39:37.000Z", "iso"),
        ("2015-06-09 19:39:37,000000 UTC", "iso"),
    ],
)
def test_one_moment_in_every_form(text: str, unit: str) -> None:
    times = parse_times(pl.Series([text, None, text]), "auto", "log")
    assert times.micros.to_list() == [MICROS, None, MICROS]
    assert times.unit == unit
    assert times.warnings == ()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("dtype", [pl.String, pl.Int64, pl.Float64])
def test_detected_equals_stated(unit: str, dtype: type[pl.DataType]) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = pl.Series([1_433_878_777 * factor, 1_433_878_778 * factor]).cast(dtype)
    detected, stated = parse_times(values, "auto", "log"), parse_times(values, unit, "log")
    assert detected.unit == stated.unit == unit
    assert detected.micros.to_list() == stated.micros.to_list() == [MICROS, MICROS + 1_000_000]


@settings(derandomize=True)
@given(st.datetimes(datetime(1973, 4, 1), datetime(2099, 12, 31)))
def test_detection_agrees_with_the_clock(moment: datetime) -> None:
    expected = int((moment - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    for factor in (1, 10**3, 10**6, 10**9):
        values = pl.Series([str(expected // 10**6 * factor)])
        assert parse_times(values, "auto", "log").micros[0] == expected
    text = pl.Series([moment.isoformat(timespec="microseconds")])
    assert parse_iso(text)[0] == expected + moment.microsecond


@pytest.mark.parametrize(
    "text",
    ["2015-6-9", "09.06.2015", "2015-06-09T25:00:00", "2015-13-01", "20150609", "now", "2015-06"],
)
def test_other_text_is_no_iso(text: str) -> None:
    assert parse_iso(pl.Series([text])).to_list() == [None]


def test_fractions_of_a_second_are_exact_to_the_microsecond() -> None:
    values = pl.Series(["1433878777.123456", "1433878777"])
    assert parse_times(values, "auto", "log").micros.to_list() == [MICROS + 123_456, MICROS]
    assert parse_iso(pl.Series(["2015-06-09T19:39:37.123456789"]))[0] == MICROS + 123_456


def test_whole_numbers_stay_exact_beside_fractions() -> None:
    values = pl.Series([str(MICROS + 1), f"{MICROS}.5"])
    assert parse_times(values, "us", "log").micros[0] == MICROS + 1


def test_times_with_and_without_zone_are_stated() -> None:
    values = pl.Series(["2015-06-09T21:39:37+02:00", "2015-06-09T19:39:37", "2015-06-09"])
    times = parse_times(values, "auto", "log")
    assert times.micros.to_list() == [MICROS, MICROS, MICROS // 86_400_000_000 * 86_400_000_000]
    assert times.warnings == ("log: 2 times without a zone are taken as UTC.",)


def test_positions_are_seconds_and_stated() -> None:
    times = parse_times(pl.Series(["0", "1", "292"]), "auto", "log")
    assert times.micros.to_list() == [0, 1_000_000, 292_000_000]
    assert "largest value is 292" in times.warnings[0]


def test_stated_unit_takes_every_time_since_1970() -> None:
    values = pl.Series([0, 5, 1_433_878_777, 4_102_444_800, -1])
    times = parse_times(values, "s", "log")
    assert times.micros.to_list() == [0, 5_000_000, MICROS, None, None]


def test_scales_meet_without_gap() -> None:
    for lower, upper in pairwise(SCALES):
        assert lower.high == upper.low


def test_up_to_one_percent_in_another_unit_is_set_aside() -> None:
    usual = [1_433_878_777] * 198
    times = parse_times(pl.Series([*usual, 1_433_878_777_000, 0]), "auto", "log")
    assert times.micros.null_count() == 2
    assert "2 of 200 values are not a number of seconds" in times.warnings[0]
    with pytest.raises(DataError, match=r"196 in s, 4 in ms; data row 197 holds 1433878777000"):
        parse_times(pl.Series([*usual[:196], *[1_433_878_777_000] * 4]), "auto", "log")
