from __future__ import annotations

import json

import polars as pl
import pytest

from tasks.data.schema import (
    MAX_TIMESTAMP,
    InteractionsError,
    QuarantineError,
    check_quarantine_share,
    count_reasons,
    split_valid,
    validate,
)

BAD_ROWS = [
    (None, "x", 1, 1.0, "user_id is missing"),
    ("", "x", 1, 1.0, "user_id is missing"),
    ("a", None, 1, 1.0, "item_id is missing"),
    ("a", "", 1, 1.0, "item_id is missing"),
    ("a", "x", None, 1.0, "timestamp is missing or unreadable"),
    ("a", "x", -1, 1.0, "timestamp is before 1970"),
    ("a", "x", MAX_TIMESTAMP + 1, 1.0, "timestamp is after 2100: wrong unit?"),
    ("a", "x", 1, float("nan"), "rating is not a finite number"),
    ("a", "x", 1, float("inf"), "rating is not a finite number"),
]
GOOD_ROWS = [("a", "x", 0, None), ("a", " ", MAX_TIMESTAMP, -3.0)]


def _frame(rows: list[tuple]) -> pl.DataFrame:
    columns = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    frame = pl.DataFrame(rows, schema={**columns, "rating": pl.Float64}, orient="row")
    return frame.with_columns(row=pl.int_range(len(rows), dtype=pl.Int64))


@pytest.mark.parametrize("row", BAD_ROWS)
def test_split_valid_quarantines_a_bad_row_with_its_reason(row: tuple) -> None:
    valid, quarantine = split_valid(_frame([GOOD_ROWS[0], row[:4], GOOD_ROWS[1]]))
    assert valid["row"].to_list() == [0, 2]
    assert quarantine["row"].to_list() == [1]
    assert quarantine["reason"].to_list() == [row[4]]


def test_split_valid_keeps_the_raw_values_of_a_bad_row() -> None:
    _, quarantine = split_valid(_frame([("u,1", "", 7, 2.5)]))
    assert json.loads(quarantine["text"][0]) == {
        "user_id": "u,1", "item_id": "", "timestamp": 7, "rating": 2.5,
    }  # fmt: skip


def test_split_valid_accounts_for_every_row() -> None:
    rows = [row[:4] for row in BAD_ROWS] + GOOD_ROWS
    valid, quarantine = split_valid(_frame(rows))
    assert len(valid) == len(GOOD_ROWS)
    assert sorted(valid["row"].to_list() + quarantine["row"].to_list()) == list(range(len(rows)))
    assert sum(count_reasons(quarantine).values()) == len(BAD_ROWS)


def test_split_valid_accepts_a_log_without_ratings_and_an_empty_one() -> None:
    frame = _frame(GOOD_ROWS).drop("rating")
    valid, quarantine = split_valid(frame)
    assert (len(valid), len(quarantine)) == (2, 0)
    assert split_valid(frame.clear())[0].is_empty()


def test_split_valid_orders_by_row() -> None:
    valid, _ = split_valid(_frame(GOOD_ROWS).reverse())
    assert valid["row"].to_list() == [0, 1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f.drop("item_id"), "item_id"),
        (lambda f: f.with_columns(pl.col("timestamp").cast(pl.Float64)), "timestamp"),
        (lambda f: f.with_columns(pl.lit(0, pl.Int64).alias("row")), "row"),
        (lambda f: f.with_columns(pl.lit(1).alias("user_id")), "user_id"),
    ],
)
def test_split_valid_names_the_column_that_does_not_fit(change, named: str) -> None:
    with pytest.raises(InteractionsError, match=f"column '{named}'"):
        split_valid(change(_frame(GOOD_ROWS)))


def test_validate_refuses_a_bad_value() -> None:
    with pytest.raises(InteractionsError, match="before 1970"):
        validate(_frame([BAD_ROWS[5][:4]]))


def test_check_quarantine_share_stops_above_the_limit_only() -> None:
    _, quarantine = split_valid(_frame([GOOD_ROWS[0]] * 3 + [BAD_ROWS[0][:4]]))
    check_quarantine_share(quarantine, 4, 0.25, "quarantine.csv")
    with pytest.raises(QuarantineError, match=r"1 of 4 rows \(25.00%\).*user_id is missing.*row 3"):
        check_quarantine_share(quarantine, 4, 0.2, "quarantine.csv")


def test_check_quarantine_share_passes_an_empty_log() -> None:
    _, quarantine = split_valid(_frame([]))
    check_quarantine_share(quarantine, 0, 0.0, "quarantine.csv")
    assert count_reasons(quarantine) == {}
