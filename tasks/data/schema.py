"""The declared form of an interaction log, and which rows of a log fit it."""

from __future__ import annotations

from dataclasses import dataclass

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

MAX_TIMESTAMP = 4_102_444_800_000_000
"""2100-01-01 in microseconds: later times mean a wrong unit."""


class InteractionsError(ValueError):
    """A table of interactions has not the declared columns, types or row numbers."""


class QuarantineError(ValueError):
    """More rows are unusable than the settings allow."""


@dataclass(frozen=True)
class RowRule:
    """What every value of one column must satisfy.

    Attributes:
        column: The column judged.
        reason: Text written beside a row that breaks the rule.
        valid: Expression that is true for a usable row.
    """

    column: str
    reason: str
    valid: pl.Expr


def _is_id(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & (pl.col(column).str.len_bytes() > 0)


ROW_RULES = (
    RowRule("user_id", "user_id is missing", _is_id("user_id")),
    RowRule("item_id", "item_id is missing", _is_id("item_id")),
    RowRule("timestamp", "timestamp is missing or unreadable", pl.col("timestamp").is_not_null()),
    RowRule("timestamp", "timestamp is before 1970", ~(pl.col("timestamp") < 0).fill_null(False)),
    RowRule(
        "timestamp",
        "timestamp is after 2100: wrong unit?",
        ~(pl.col("timestamp") > MAX_TIMESTAMP).fill_null(False),
    ),
    RowRule(
        "rating", "rating is not a finite number", pl.col("rating").is_finite().fill_null(True)
    ),
)
"""Rules in the order they are tried; a row is quarantined for the first it breaks."""

COLUMNS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "rating": pl.Float64,
    "row": pl.Int64,
}

QUARANTINE = {"row": pl.Int64, "line": pl.Int64, "reason": pl.String, "text": pl.String}
"""Columns of the quarantine: row (from 0), line in the file (from 1) where known, why the row is
unusable, the row as it was read."""


def _column(name: str, with_rules: bool) -> pa.Column:
    checks = [
        pa.Check(lambda data, valid=rule.valid: data.lazyframe.select(valid), error=rule.reason)
        for rule in ROW_RULES
        if with_rules and rule.column == name
    ]
    optional = name == "rating"
    return pa.Column(
        COLUMNS[name],
        checks,
        nullable=optional or not with_rules,
        required=not optional,
        unique=name == "row" and with_rules,
    )


RAW_INTERACTIONS = pa.DataFrameSchema({name: _column(name, False) for name in COLUMNS})
"""Columns and types of a log as read: values may still be missing."""

INTERACTIONS = pa.DataFrameSchema({name: _column(name, True) for name in COLUMNS})
"""A log without unusable rows. ``timestamp`` is in microseconds since the epoch."""


def validate(frame: pl.DataFrame, schema: pa.DataFrameSchema = INTERACTIONS) -> pl.DataFrame:
    """Return the declared columns of ``frame`` after checking them against ``schema``.

    Raises:
        InteractionsError: A column is missing, has another type or breaks a rule; the message
            lists every problem.
    """
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        raise InteractionsError(_describe(error, frame)) from None
    return frame.select(name for name in COLUMNS if name in frame.columns)


def split_valid(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Separate usable rows from the others.

    Args:
        frame: A log as read: ``user_id``, ``item_id`` (text), ``timestamp`` (int64,
            microseconds), ``row`` (int64, unique) and optionally ``rating`` (float).

    Returns:
        The usable rows in the order of ``row``, and the others with the columns of
        ``QUARANTINE``, their values as JSON.

    Raises:
        InteractionsError: The columns or types are not the declared ones, or a row number
            occurs twice.
    """
    frame = validate(frame, RAW_INTERACTIONS)
    if frame["row"].null_count() or not frame["row"].is_sorted():
        frame = frame.sort("row", nulls_last=True)
    reason = pl.coalesce(
        pl.when(~rule.valid).then(pl.lit(rule.reason))
        for rule in ROW_RULES
        if rule.column in frame.columns
    )
    reasons = frame.select(reason=reason)["reason"]
    if reasons.null_count() == len(frame):
        return validate(frame), pl.DataFrame(schema=QUARANTINE)
    unusable = frame.with_columns(reason=reasons).filter(reasons.is_not_null())
    values = [name for name in COLUMNS if name in frame.columns and name != "row"]
    text = pl.struct(values).struct.json_encode()
    quarantine = unusable.select("row", pl.lit(None, pl.Int64).alias("line"), "reason", text=text)
    return validate(frame.filter(reasons.is_null())), quarantine


def check_quarantine_share(
    quarantine: pl.DataFrame, num_rows: int, max_share: float, where: str
) -> None:
    """Raise when more rows are unusable than allowed.

    Args:
        quarantine: Unusable rows.
        num_rows: All rows of the log.
        max_share: Largest allowed share, 0 to 1.
        where: File that lists the unusable rows, for the message.

    Raises:
        QuarantineError: The share is above ``max_share``.
    """
    share = len(quarantine) / max(num_rows, 1)
    if share > max_share:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in count_reasons(quarantine).items())
        raise QuarantineError(
            f"{len(quarantine)} of {num_rows} rows ({share:.2%}) are unusable; "
            f"data.max_quarantine_share allows {max_share:.2%}. Reasons: {reasons}; the first is "
            f"row {quarantine['row'][0]}: {quarantine['text'][0]!r:.200}. {where} lists all of "
            "them: mend the log, or raise the setting if losing them is acceptable."
        )


def count_reasons(quarantine: pl.DataFrame) -> dict[str, int]:
    """Count quarantined rows by reason, in alphabetical order of the reasons."""
    counted = quarantine["reason"].value_counts().sort("reason")
    return dict(counted.iter_rows())


def _describe(error: SchemaErrors, frame: pl.DataFrame) -> str:
    cases = error.failure_cases
    problems = []
    for column, check in cases.select("column", "check").unique(maintain_order=True).iter_rows():
        if check == "column_in_dataframe":
            continue
        found = frame.schema.get(column)
        problems.append(f"column {column!r} ({found}) breaks {check}")
    missing = [n for n in COLUMNS if n != "rating" and n not in frame.columns]
    problems.extend(f"column {name!r} is missing" for name in missing)
    expected = ", ".join(f"{name}: {kind.__name__}" for name, kind in COLUMNS.items())
    return (
        f"the interactions can't be used: {'; '.join(problems)}. Expected {expected} "
        "(rating optional, row unique). Read the log with the project's reader."
    )
