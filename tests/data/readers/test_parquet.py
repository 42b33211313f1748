"""Parquet: types, nesting and damage."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time

import polars as pl
import pytest

from tasks.data.readers import read_interactions

TIME = 1_500_000_000


def pack(columns: dict) -> bytes:
    """Return a Parquet file."""
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def log(**changes: object) -> bytes:
    """Return a log of two rows with some columns changed."""
    columns = {"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": [TIME, TIME + 1], **changes}
    return pack(columns)


NOW = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = log()
NANOSECONDS = pl.Series([NOW, NOW]).cast(pl.Datetime("ns"))
EVENTS = [[{"sku": "a", "t": TIME}, {"sku": "b", "t": TIME}], [{"sku": "c", "t": TIME}]]


def case(name: str, content: bytes, *expected: object, file: str = "log.parquet", **reading: str):
    return pytest.param(file, content, expected, reading, id=name)


CASES = [
    case("plain", GOOD, 2, 0),
    case("under_another_name", GOOD, 2, 0, file="log.bin"),
    case("null_user", log(user_id=[1, None]), 1, 1),
    case("float_ids", log(user_id=[1.0, 2.0]), 2, 0),
    case("nan_ids", log(user_id=[1.0, float("nan")]), 1, 1),
    case("bool_ids", log(user_id=[True, False]), 2, 0),
    case("categorical_ids", log(item_id=pl.Series(["a", "b"], dtype=pl.Categorical)), 2, 0),
    case("list_ids", log(item_id=[[1], [2]], item=[3, 4]), 2, 0),
    case("list_of_lists_ids", log(item_id=[[[1]], [[2]]]), "not a value"),
    case("binary_ids", log(item_id=[b"a", b"b"]), "holds Binary"),
    case("struct_ids", log(item_id=[{"a": 1}, {"a": 2}]), "'item_id.a'", "data.item_column"),
    case("struct_field", log(item_id=[{"a": 1}, {"a": 2}]), 2, 0, item_column="item_id.a"),
    case("nested_events", pack({"user": [1, 2], "events": EVENTS}), 3, 0,
         item_column="events.sku", time_column="events.t"),
    case("datetimes", log(timestamp=[NOW, NOW]), 2, 0),
    case("naive_datetimes", log(timestamp=[datetime(2020, 1, 2), datetime(1920, 1, 2)]), 1, 1),
    case("nanosecond_datetimes", log(timestamp=NANOSECONDS), 2, 0),
    case("dates", log(timestamp=[date(2020, 1, 2), date(2020, 1, 3)]), 2, 0),
    case("clock_times", log(timestamp=[time(1), time(2)]), "no point in time"),
    case("float_times", log(timestamp=[TIME + 0.5, float("nan")]), 1, 1),
    case("unsigned_times", log(timestamp=pl.Series([TIME, 2**64 - 1], dtype=pl.UInt64)), 1, 1),
    case("text_times", log(timestamp=["2020-01-02", "2020-01-03"]), 2, 0),
    case("bool_times", log(timestamp=[True, False]), "holds Boolean"),
    case("all_null_times", log(timestamp=pl.Series([None, None], dtype=pl.Int64)), "no time"),
    case("decimal_rating", log(rating=pl.Series([1, 2]).cast(pl.Decimal(10, 2))), 2, 0),
    case("text_rating", log(rating=["5", "five"]), 1, 1),
    case("no_rows", log(user_id=[], item_id=[], timestamp=[]), "no rows"),
    case("no_column", pack({"a": [1]}), "no column 'user_id'"),
    case("cut", GOOD[:-20], "damaged", "Write or download"),
    case("cut_in_the_head", GOOD[:6], "damaged"),
    case("bytes_changed", GOOD[:8] + b"\xff" * 20 + GOOD[28:], "log.parquet"),
    case("stated_csv", GOOD, "is a Parquet file, not csv", format="csv"),
    case("stated_parquet_in_csv", b"user,item,time\n1,2,3\n", "no Parquet", format="parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "expected", "reading"), CASES)
def test_parquet(file, content, expected, reading, assert_read_as) -> None:
    assert_read_as(file, content, expected, reading)


def test_types_become_the_declared_ones(tmp_path) -> None:
    path = tmp_path / "log.parquet"
    path.write_bytes(log(user_id=[7.0, 8.5], timestamp=[NOW, NOW], rating=[1, 2]))
    frame, report = read_interactions(path)
    assert dict(frame.schema) == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "rating": pl.Float64,
        "row": pl.Int64,
    }
    assert frame["user_id"].to_list() == ["7", "8.5"]
    assert frame["timestamp"].to_list() == [int(NOW.timestamp() * 1e6)] * 2
    assert report.time_unit == "datetime"


def test_unusable_rows_have_no_line(assert_read_as) -> None:
    report = assert_read_as("log.parquet", log(user_id=[1, None]), (1, 1), {})
    assert report.unparsed.rows() == [(1, None, "user_id is missing", "(None, 'b', 1500000001)")]
