"""Read delimited text whose quotes follow no rule the fast parser knows, row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import polars as pl

from tasks.data.readers.dialect import Dialect
from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.lines import MAX_TEXT
from tasks.data.readers.report import Locator, Role


def read_quoted(
    data: bytes, dialect: Dialect, positions: Mapping[int, Role], label: str
) -> tuple[pl.DataFrame, Locator, int]:
    """Split text with stray quotes; a quote counts only where a field starts with it.

    About 2 s per million rows: it runs only where the fast parser gave up.

    Args:
        data: UTF-8 text.
        dialect: Layout of the text.
        positions: Column number -> role.
        label: The file, for messages.

    Returns:
        The mapped columns with ``row`` and ``is_wide``, a locator, the number of blank lines.

    Raises:
        DataError: A quote opens and never closes; the message names its line.
    """
    text = data.decode("utf-8").removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=dialect.separator)
    width = len(dialect.names)
    columns: dict[Role, list[str | None]] = {role: [] for role in positions.values()}
    rows: list[int] = []
    lines: list[int] = []
    wide: list[bool] = []
    start, blank = 1, 0
    try:
        for record, fields in enumerate(reader):
            line, start = start, reader.line_num + 1
            if record < dialect.num_header_records:
                continue
            if not fields:
                blank += 1
                continue
            rows.append(record - dialect.num_header_records)
            lines.append(line)
            wide.append(len(fields) > width and any(fields[width:]))
            for position, role in positions.items():
                columns[role].append(fields[position] if position < len(fields) else None)
    except csv.Error as error:
        raise DataError(
            f"{label}, line {reader.line_num}: {error}. Mend that line: fields with quotes, "
            "separators or line ends inside must be quoted, with inner quotes doubled."
        ) from error
    if lines and _is_open(text, lines[-1], dialect.separator):
        raise _unclosed(label, lines[-1], text)
    frame = pl.DataFrame(
        {**columns, "row": rows, "is_wide": wide},
        schema={**dict.fromkeys(columns, pl.String), "row": pl.Int64, "is_wide": pl.Boolean},
    )
    return frame, _make_locator(rows, lines, text), blank


def _is_open(text: str, first_line: int, separator: str) -> bool:
    """Tell if the last record ended only because the text did."""
    tail = "\n".join(text.split("\n")[first_line - 1 :])
    try:
        for _ in csv.reader(io.StringIO(tail, newline="\n"), delimiter=separator, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _unclosed(label: str, line: int, text: str) -> DataError:
    content = text.split("\n")[line - 1 : line]
    return DataError(
        f'{label}, line {line}: a quote (") opens and never closes: {shorten("".join(content))}. '
        'Close it, double it ("") inside a quoted field, or remove it.'
    )


def _make_locator(rows: Sequence[int], lines: Sequence[int], text: str) -> Locator:
    line_of = dict(zip(rows, lines, strict=True))

    def locate(wanted: Sequence[int]) -> list[tuple[int | None, str]]:
        split = text.split("\n")
        return [
            (line_of[row], split[line_of[row] - 1].rstrip("\r")[:MAX_TEXT])
            if row in line_of
            else (None, "")
            for row in wanted
        ]

    return locate
