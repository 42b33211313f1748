"""Columns, ids, times and ratings that can't be used."""

from __future__ import annotations

import pytest

from tasks.data.readers import DataError, read_interactions

HEADER = b"user_id,item_id,timestamp\n"


def case(name: str, content: bytes, *expected: object, file: str = "log.csv", **reading: str):
    return pytest.param(file, content, expected, reading, id=name)


def rows(*times: object) -> bytes:
    """Return a log with one event per time."""
    return HEADER + b"".join(b"u%d,i%d,%s\n" % (k, k, str(t).encode()) for k, t in enumerate(times))


def many(odd: object, usual: object = 1_500_000_000, count: int = 200) -> bytes:
    """Return a log with one odd time among usual ones."""
    return rows(*[usual] * count, odd)


COLUMNS = [
    case("no_user_column", b"who,item_id,ts\n1,2,1500000000\n", "'who'", "data.user_column"),
    case("nearest_name", b"usr_id,item,time\n1,2,1500000000\n", "nearest is 'usr_id'"),
    case("two_missing", b"a,b,time\n1,2,1500000000\n", "data.user_column", "data.item_column"),
    case("stated_name_missing", rows(1), "no column 'buyer'", user_column="buyer"),
    case("stated_rating_missing", rows(1), "no column 'stars'", rating_column="stars"),
    case("duplicate_columns", b"user,user,item,time\n1,1,2,1500000000\n", "2 columns named 'user'"),
    case("duplicate_unused_columns", b"user,item,time,x,x\n1,2,1500000000,3,4\n", 1, 0),
    case("one_column_for_two_roles", rows(1), "both user_id and item_id", item_column="user_id"),
    case("names_with_spaces", b" user , item , time \nu1,i1,1500000000\n", 1, 0),
    case("names_in_capitals", b"USER_ID,Item-Id,TimeStamp\nu1,i1,1500000000\n", 1, 0),
    case("unnamed_column", b",user,item,time\n0,u1,i1,1500000000\n", 1, 0),
    case("four_thousand_columns", b",".join(b"c%d" % k for k in range(4000)) + b"\n" + b"1," * 3999
         + b"1\n", "'c29' and 3,970 more", "data.user_column"),
    case("four_thousand_columns_no_header", b"1," * 3999 + b"1\n", "3,970 more", "no header"),
    case("no_header_five_columns", b"1,2,3,4,5\n1,2,3,4,5\n", "no header", "column_5"),
    case("no_header_columns_stated", b"9,1,2,5,1500000000\n", 1, 0,
         user_column="column_2", item_column="column_3", time_column="column_5"),
    case("no_header_three_columns", b"1,2,1500000000\n", 1, 0),
    case("no_header_text_time", b"1,2,yesterday\n3,4,today\n", "no header"),
]  # fmt: skip
IDS = [
    case("missing_user", HEADER + b",i,1500000000\nu,i,1500000000\n", 1, 1),
    case("nan_user", HEADER + b"nan,i,1500000000\nu,i,1500000000\n", 1, 1),
    case("null_item", HEADER + b"u,NULL,1500000000\nu,i,1500000000\n", 1, 1),
    case("none_item", HEADER + b"u,None,1500000000\nu,i,1500000000\n", 1, 1),
    case("blank_item", HEADER + b"u,   ,1500000000\nu,i,1500000000\n", 1, 1),
    case("all_ids_missing", HEADER + b",,1500000000\n,,1500000001\n", "line 2", "is missing"),
    case("ids_with_spaces", HEADER + b"Jane Doe,The Matrix,1500000000\n", 1, 0),
    case("ids_with_slashes", HEADER + b"a/b,../../etc/passwd,1500000000\n", 1, 0),
    case("ids_with_markup", HEADER + b"<script>,{{x}},1500000000\n", 1, 0),
    case("one_user", HEADER + b"".join(b"u,i%d,15000000%02d\n" % (k, k) for k in range(9)), 9, 0),
    case("one_item", HEADER + b"".join(b"u%d,i,15000000%02d\n" % (k, k) for k in range(9)), 9, 0),
    case("ids_with_line_ends", HEADER + b'"u\n1","i\r\n1",1500000000\n', 1, 0),
    case("ids_with_terminal_codes", HEADER + b"u\x1b[31m,i1,1500000000\n", 1, 0),
    case("ids_with_parent_paths", HEADER + b"../../u,/etc/passwd,1500000000\n", 1, 0),
    case("ten_kilobyte_id", HEADER + b"u," + b"i" * 10_000 + b",1500000000\n", 1, 0),
    case("hundred_kilobyte_id", HEADER + b"u," + b"i" * 100_000 + b",15\nu,i,15\n", 1, 1),
    case("leading_zeros", HEADER + b"007,0042,1500000000\n", 1, 0),
    case("formula", HEADER + b"=1+1,@SUM(A1),1500000000\n", 1, 0),
]
TIMES = [
    case("no_time", many(""), 200, 1),
    case("text_time", many("soon"), 200, 1),
    case("nan_time", many("nan"), 200, 1),
    case("infinite_time", many("inf"), 200, 1),
    case("negative_time", many(-1), 200, 1),
    case("huge_time", many(10**18), 200, 1),
    case("time_beyond_int64", many(10**23), 200, 1),
    case("time_of_the_year_5000", many(95_617_584_000), 200, 1),
    case("zero_time", many(0), 200, 1),
    case("all_times_zero", rows(0, 0, 0), 3, 0),
    case("all_times_equal", rows(*[1_500_000_000] * 3), 3, 0),
    case("all_times_negative", rows(-5, -6), "line 2", "-5"),
    case("all_times_huge", rows(10**19, 10**20), "line 2"),
    case("all_times_text", rows("soon", "later"), "no time that can be read", "'soon'"),
    case("all_times_missing", rows("", ""), "no time that can be read"),
    case("american_dates", rows("06/09/2015", "06/10/2015"), "no time", "ISO 8601"),
    case("clock_only", rows("10:30:00", "10:31:00"), "no time"),
    case("seconds_and_milliseconds", rows(1_500_000_000, 1_500_000_000_000), "mixes time units"),
    case("milliseconds_and_micros", rows(1_500_000_000_000, 15 * 10**14), "mixes time units"),
    case("numbers_and_dates", rows(1_500_000_000, "2015-06-09"), "mixes"),
    case("dates_and_numbers", rows("2015-06-09", "2015-06-10", 1_500_000_000), "mixes ISO 8601"),
    case("one_millisecond_value", many(1_500_000_000_000), 200, 1),
    case("one_date_value", many("2015-06-09"), 200, 1),
    case("one_number_in_dates", many(1_500_000_000, "2015-06-09"), 200, 1),
    case("mixed_but_stated", rows(1_500_000_000, 1_500_000_000_000), 1, 1, time_unit="s"),
    case("many_zero_times", rows(*[0] * 5, *[1_500_000_000] * 9), 9, 5),
    case("positions_and_times", rows(1, 2, 3, 1_500_000_000), "mixes time units", "3 positions"),
    case("dates_but_seconds_stated", rows("2015-06-09"), "no time", time_unit="s"),
    case("seconds_but_dates_stated", rows(1_500_000_000), "no time", time_unit="iso"),
    case("positions", rows(0, 1, 2, 3), 4, 0),
    case("impossible_date", many("2015-02-30", "2015-02-28"), 200, 1),
    case("leap_day", rows("2016-02-29T23:59:59Z"), 1, 0),
    case("date_before_1970", many("1969-12-31", "2015-02-28"), 200, 1),
    case("date_after_2100", many("2100-01-01", "2015-02-28"), 200, 1),
    case("floats", rows("1.5e9", "1500000000.25"), 2, 0),
    case("times_with_spaces", rows(" 1500000000 ", "1500000001"), 2, 0),
]  # fmt: skip
RATED = b"user_id,item_id,rating,timestamp\n"
RATINGS = [
    case("text_rating", RATED + b"u,i,five,1500000000\nu,i,5,1500000000\n", 1, 1),
    case("nan_rating", RATED + b"u,i,nan,1500000000\nu,i,5,1500000000\n", 1, 1),
    case("infinite_rating", RATED + b"u,i,inf,1500000000\nu,i,5,1500000000\n", 1, 1),
    case("empty_rating", RATED + b"u,i,,1500000000\nu,i,5,1500000000\n", 2, 0),
    case("comma_rating", RATED.replace(b",", b";") + b"u;i;3,5;1500000000\n", 1, 0),
    case("negative_rating", RATED + b"u,i,-1,1500000000\n", 1, 0),
]


@pytest.mark.parametrize(
    ("file", "content", "expected", "reading"), [*COLUMNS, *IDS, *TIMES, *RATINGS]
)
def test_broken_values(file, content, expected, reading, assert_read_as) -> None:
    assert_read_as(file, content, expected, reading)


def test_empty_column_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.item_column is empty"):
        read_interactions("log.csv", item_column="")


def test_odd_times_are_named_in_a_warning(assert_read_as) -> None:
    report = assert_read_as("log.csv", many(1_500_000_000_000), (200, 1), {})
    (warning,) = report.warnings
    assert "1 of 201 values are not a number of seconds from 1973 to 2100" in warning
    assert "data row 201 holds '1500000000000'" in warning
    assert "1500000000000" in report.unparsed["reason"][0]
