"""Read CSV, TSV, RecBole ``.inter`` and MovieLens ``.dat`` text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from tasks.data.readers.columns import SETTING, list_names, resolve_columns
from tasks.data.readers.dialect import Dialect, sniff_dialect
from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.lines import CHUNK, RecordIndex
from tasks.data.readers.packing import RawLog
from tasks.data.readers.quoted import read_quoted
from tasks.data.readers.report import ROLES, FormatChoice, Locator, RawTable, Role
from tasks.data.readers.text import Text, as_utf8, repair

UNIT_SEPARATOR = "\x1f"
"""Stands in for ``::``, because the parser knows separators of one byte only."""


def read_delimited(
    log: RawLog, *, format: FormatChoice, separator: str, requested: Mapping[Role, str]
) -> RawTable:
    """Split a delimited text into the columns asked for, all as text.

    Raises:
        DataError: The layout can't be made out, a column is missing or a quote never closes.
    """
    text = as_utf8(log)
    try:
        return _read(log, text, format, separator, requested)
    except (pl.exceptions.ComputeError, UnicodeDecodeError) as error:
        if not isinstance(error, UnicodeDecodeError) and "utf-8" not in str(error):
            raise DataError(f"{log.label} can't be split into columns: {error}.") from error
    return _read(log, repair(text), format, separator, requested)


def _read(
    log: RawLog, text: Text, format: FormatChoice, separator: str, requested: Mapping[Role, str]
) -> RawTable:
    head = log.head() if text.data is None else text.data[: len(log.head())]
    is_whole = text.data is None and len(head) == log.path.stat().st_size
    is_whole = is_whole or (text.data is not None and len(head) == len(text.data))
    dialect = sniff_dialect(
        _decode_head(head, is_whole),
        is_whole=is_whole,
        format=format,
        separator=separator,
        requested=requested,
        label=log.label,
    )
    columns = _resolve(dialect, requested, log.label, head)
    frame, locate, blank = _split(text, dialect, columns, log.label)
    if frame.is_empty():
        what = "a header but no data rows" if dialect.has_header else "no data rows"
        raise DataError(f"{log.label} has {what}. Write or download the log again.")
    return RawTable(
        frame=frame,
        locate=locate,
        format=dialect.format,
        columns=columns,
        found_columns=dialect.names,
        separator=dialect.separator,
        encoding=text.encoding,
        has_header=dialect.has_header,
        num_blank_lines=blank,
        is_lossy=text.is_lossy,
        warnings=text.warnings,
    )


def _decode_head(head: bytes, is_whole: bool) -> str:
    """Decode strictly, but for a character cut at the end."""
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_whole or error.start < len(head) - 4:
            raise
        return head[: error.start].decode("utf-8")


def _resolve(
    dialect: Dialect, requested: Mapping[Role, str], label: str, head: bytes
) -> dict[Role, str]:
    """Map roles to columns; without a header by position unless the user named columns."""
    if dialect.has_header:
        return resolve_columns(dialect.names, requested, label)
    stated = {role: name for role, name in requested.items() if name not in ("", role)}
    wanted = {**dialect.defaults, **stated}
    missing = [role for role in ROLES[:3] if role not in wanted]
    if missing:
        first = head.split(b"\n", 1)[0].decode("utf-8", errors="replace")
        settings = ", ".join(SETTING[role] for role in missing)
        raise DataError(
            f"{label} has no header (first line {shorten(first)}), so its columns are "
            f"{list_names(dialect.names)}. Say which is which: set {settings}."
        )
    return resolve_columns(dialect.names, {**requested, **wanted}, label)


def _split(
    text: Text, dialect: Dialect, columns: Mapping[Role, str], label: str
) -> tuple[pl.DataFrame, Locator, int]:
    """Return the mapped columns and row numbers, a locator, and the number of blank lines."""
    data, separator = text.data, dialect.separator
    if len(separator) > 1:
        data = text.read_bytes()
        if UNIT_SEPARATOR.encode() in data:
            raise DataError(f"{label} holds the control character 0x1f. Remove it.")
        data = data.replace(separator.encode(), UNIT_SEPARATOR.encode())
        separator = UNIT_SEPARATOR
    num_quotes = _count_quotes(text) if len(dialect.separator) == 1 else 0
    quoted = num_quotes > 0
    positions = {dialect.names.index(name): role for role, name in columns.items()}
    if num_quotes % 2:
        return read_quoted(text.read_bytes(), dialect, positions, label)
    try:
        frame = _scan(
            text.path if data is None else data, dialect, separator, positions, quoted=quoted
        )
    except pl.exceptions.ComputeError as error:
        if not quoted or "utf-8" in str(error):
            raise
        return read_quoted(text.read_bytes(), dialect, positions, label)
    locate = _Locator(text, quoted, dialect.num_header_records)
    frame, blank = _drop_blank_lines(frame, list(columns), locate)
    return frame, locate, blank


def _count_quotes(text: Text) -> int:
    if text.data is not None:
        return text.data.count(b'"')
    with text.path.open("rb") as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(CHUNK), b""))


def _scan(
    source: Path | bytes,
    dialect: Dialect,
    separator: str,
    positions: Mapping[int, Role],
    *,
    quoted: bool,
) -> pl.DataFrame:
    """Parse the mapped columns; one column past the last shows rows with too many fields."""
    width = len(dialect.names)
    names = {positions.get(i, f"other_{i}"): pl.String for i in range(width)}
    lazy = pl.scan_csv(
        source,
        has_header=False,
        skip_lines=dialect.num_header_records if not quoted else 0,
        skip_rows=dialect.num_header_records if quoted else 0,
        separator=separator,
        quote_char='"' if quoted else None,
        schema={**names, "beyond": pl.String},
        missing_columns="insert",
        extra_columns="ignore",
        truncate_ragged_lines=True,
        glob=False,
        row_index_name="row",
        raise_if_empty=False,
    )
    wanted = [pl.col(role) for role in positions.values()]
    return lazy.select(
        *wanted, pl.col("row").cast(pl.Int64), is_wide=pl.col("beyond").is_not_null()
    ).collect(engine="streaming")


class _Locator:
    """Builds the index of records when it is first asked; the text is not kept before that."""

    def __init__(self, text: Text, quoted: bool, num_header_records: int) -> None:
        self._text, self._quoted, self._skip = text, quoted, num_header_records
        self._index: RecordIndex | None = None

    def __call__(self, rows: Sequence[int]) -> list[tuple[int | None, str]]:
        if self._index is None:
            data = self._text.read_bytes()
            self._index = RecordIndex(data, quoted=self._quoted, num_header_records=self._skip)
        return self._index.locate(rows)


def _drop_blank_lines(
    frame: pl.DataFrame, roles: list[str], locate: Locator
) -> tuple[pl.DataFrame, int]:
    """Remove lines without any text; rows keep the number of their line among the data lines."""
    is_blank = pl.all_horizontal(pl.col(roles).str.strip_chars().fill_null("") == "")
    empty = frame.filter(pl.col("timestamp").is_null() & ~pl.col("is_wide")).filter(is_blank)
    if empty.is_empty():
        return frame, 0
    rows = empty["row"].to_list()
    blank = [row for row, (_, text) in zip(rows, locate(rows), strict=True) if not text.strip()]
    return frame.filter(~pl.col("row").is_in(blank)), len(blank)
