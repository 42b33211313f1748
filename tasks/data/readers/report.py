"""What a reader found out about a log, and the table it hands to the rest of the reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

Role = Literal["user_id", "item_id", "timestamp", "rating"]
Format = Literal["csv", "tsv", "jsonl", "parquet", "inter", "dat"]
FormatChoice = Literal["auto", "csv", "tsv", "jsonl", "parquet", "inter", "dat"]
TimeUnit = Literal["s", "ms", "us", "ns", "iso", "datetime"]
TimeUnitChoice = Literal["auto", "s", "ms", "us", "ns", "iso"]

ROLES: tuple[Role, ...] = ("user_id", "item_id", "timestamp", "rating")

UNPARSED_SCHEMA = {"row": pl.Int64, "line": pl.Int64, "reason": pl.String, "text": pl.String}
"""Columns of ``ReadReport.unparsed``: row (0-based), line in the file (1-based; null where the
format has no lines), why the row can't be used, and the row as it stands in the file."""

Locator = Callable[[Sequence[int]], list[tuple[int | None, str]]]
"""Gives the line number and the text of data rows; called for unusable rows only."""


@dataclass(frozen=True)
class ReadReport:
    """What was detected in a log, and which rows could not be used.

    Attributes:
        path: The file read.
        member: Member of the archive, "" where the file is no archive.
        compression: How the file was packed.
        format: Detected or stated format.
        separator: Text between columns, "" where the format has none.
        encoding: Text encoding, "" for Parquet.
        has_header: True if the first line named the columns.
        columns: Role (``user_id``, ...) -> name of the column in the file.
        found_columns: All columns of the file.
        time_unit: Unit of the time column, detected or stated.
        num_rows: Data rows in the file, usable or not; blank lines are no rows.
        num_blank_lines: Blank lines passed over.
        unparsed: Rows that can't be used, with ``UNPARSED_SCHEMA``.
        warnings: Things a user should know, as sentences.
    """

    path: Path
    member: str
    compression: Literal["none", "gzip", "zip"]
    format: Format
    separator: str
    encoding: str
    has_header: bool
    columns: dict[Role, str]
    found_columns: tuple[str, ...]
    time_unit: TimeUnit
    num_rows: int
    num_blank_lines: int
    unparsed: pl.DataFrame
    warnings: tuple[str, ...]

    def to_dict(self) -> dict:
        """Return everything but the unusable rows themselves as JSON-ready values."""
        return {
            "file": self.path.name,
            "member": self.member,
            "compression": self.compression,
            "format": self.format,
            "separator": self.separator,
            "encoding": self.encoding,
            "has_header": self.has_header,
            "columns": dict(self.columns),
            "found_columns": list(self.found_columns),
            "time_unit": self.time_unit,
            "num_rows": self.num_rows,
            "num_blank_lines": self.num_blank_lines,
            "num_unparsed": len(self.unparsed),
            "warnings": list(self.warnings),
        }

    def describe(self) -> str:
        """State in one line what was read and how."""
        where = f"{self.path.name}:{self.member}" if self.member else self.path.name
        form = self.format
        if self.separator:
            form += f" separated by {self.separator!r}"
        if self.encoding:
            form += f", {self.encoding}, {'with' if self.has_header else 'no'} header"
        mapping = ", ".join(f"{role}={name}" for role, name in self.columns.items())
        return (
            f"{where}: {form}; {mapping}; time unit {self.time_unit}; {self.num_rows:,} rows, "
            f"{len(self.unparsed):,} unusable"
        )


@dataclass(frozen=True)
class RawTable:
    """A log split into columns, before ids and times are checked.

    Attributes:
        frame: Columns named by role with raw values (text, or a typed Parquet column), and
            ``row`` (int64); an optional boolean ``is_wide`` marks rows with too many fields.
        broken: Rows that could not be split into columns: ``UNPARSED_SCHEMA``.
        locate: Finds line number and text of rows of ``frame``.
        is_lossy: True if undecodable bytes were replaced by U+FFFD.
        format, columns, found_columns, separator, encoding, has_header, num_blank_lines, warnings:
            See ``ReadReport``.
    """

    frame: pl.DataFrame
    locate: Locator
    format: Format
    columns: dict[Role, str]
    found_columns: tuple[str, ...]
    separator: str = ""
    encoding: str = ""
    has_header: bool = False
    broken: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=UNPARSED_SCHEMA))
    num_blank_lines: int = 0
    is_lossy: bool = False
    warnings: tuple[str, ...] = ()
