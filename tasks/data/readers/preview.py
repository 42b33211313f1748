"""A look at a log before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tasks.data.readers.interactions import read_interactions
from tasks.data.readers.report import FormatChoice, ReadReport, TimeUnitChoice


@dataclass(frozen=True)
class Preview:
    """What a log holds.

    Attributes:
        head: First usable rows, with ``time`` (UTC) beside the microseconds.
        report: What was detected.
        num_users: Distinct users.
        num_items: Distinct items.
        first_time: Earliest event, ISO 8601.
        last_time: Latest event, ISO 8601.
        unparsed: First unusable rows with line and reason.
    """

    head: pl.DataFrame
    report: ReadReport
    num_users: int
    num_items: int
    first_time: str
    last_time: str
    unparsed: pl.DataFrame


def preview(
    path: str | Path,
    *,
    num_rows: int = 5,
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str = "timestamp",
    rating_column: str = "rating",
    format: FormatChoice = "auto",
    separator: str = "auto",
    time_unit: TimeUnitChoice = "auto",
) -> Preview:
    """Read a log and summarise it; the arguments are those of ``read_interactions``.

    Raises:
        DataError: The log can't be read.
    """
    frame, report = read_interactions(
        path,
        user_column=user_column,
        item_column=item_column,
        time_column=time_column,
        rating_column=rating_column,
        format=format,
        separator=separator,
        time_unit=time_unit,
    )
    time = pl.from_epoch("timestamp", time_unit="us")
    span = frame.select(
        first=time.min().dt.to_string("iso:strict"), last=time.max().dt.to_string("iso:strict")
    )
    return Preview(
        head=frame.head(num_rows).with_columns(time=time),
        report=report,
        num_users=frame["user_id"].n_unique(),
        num_items=frame["item_id"].n_unique(),
        first_time=span["first"][0],
        last_time=span["last"][0],
        unparsed=report.unparsed.head(num_rows),
    )
