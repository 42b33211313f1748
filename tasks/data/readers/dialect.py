"""Separator, header and column names of a delimited text, from its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.data.readers.columns import is_known_name
from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.iso import ISO_PATTERN
from tasks.data.readers.report import Format, FormatChoice, Role

SEPARATORS = ("\t", ",", ";", "|", " ")
SAMPLE_LINES = 100
MIN_COLUMNS = 3
TYPED_NAME = re.compile(r"^(?P<name>[^:]+):(?:token|float|token_seq|float_seq)$")
ISO = re.compile(ISO_PATTERN.replace("(?<", "(?P<"))
FORMAT_SEPARATOR = {"tsv": "\t", "inter": "\t", "dat": "::"}


@dataclass(frozen=True)
class Dialect:
    """How a delimited text is laid out.

    Attributes:
        format: The format this layout belongs to.
        separator: Text between columns.
        num_header_records: 1 if the first line names the columns, else 0; more where blank
            lines come before it.
        has_header: True if a line names the columns.
        names: Column names; ``column_1``, ... without a header.
        defaults: Roles known from the position of the columns, where there is no header.
    """

    format: Format
    separator: str
    num_header_records: int
    has_header: bool
    names: tuple[str, ...]
    defaults: Mapping[Role, str]


def sniff_dialect(
    head: str,
    *,
    is_whole: bool,
    format: FormatChoice,
    separator: str,
    requested: Mapping[Role, str],
    label: str,
) -> Dialect:
    """Work out the layout of a delimited text.

    Args:
        head: Beginning of the text.
        is_whole: True if ``head`` is the whole text; otherwise its last line is cut.
        format: Stated format, or ``auto``.
        separator: Stated separator, or ``auto``.
        requested: Role -> column name asked for.
        label: The file, for messages.

    Raises:
        DataError: There is no line, or nothing splits the lines into three columns.
    """
    lines = head.removeprefix("\ufeff").split("\n")
    if not is_whole and len(lines) > 1:
        lines.pop()
    blank = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    lines = [line.rstrip("\r") for line in lines[blank:] if line.strip()][:SAMPLE_LINES]
    if not lines:
        raise DataError(f"{label} holds blank lines only. Write or download the log again.")
    if separator == "auto":
        separator = _stated_separator(format, lines) or _guess_separator(lines, label)
    records = split_lines(lines, separator)
    first = [field.strip() for field in records[0]]
    if len(first) < MIN_COLUMNS:
        raise _too_narrow(first, lines, separator, label)
    typed = [TYPED_NAME.match(name) for name in first]
    if all(typed):
        names = tuple(match["name"] for match in typed if match)
        return Dialect("inter", separator, blank + 1, True, names, {})
    found = _name_format(format, separator)
    if _is_header(first, records[1:2], requested):
        names = tuple(name or f"column_{i + 1}" for i, name in enumerate(first))
        return Dialect(found, separator, blank + 1, True, names, {})
    names = tuple(f"column_{i + 1}" for i in range(len(first)))
    return Dialect(found, separator, blank, False, names, _guess_roles(first))


def split_lines(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Split lines into records; where the separator is one character, quotes may join lines.

    >>> split_lines(['1,"a,b",2', '1,"a', 'b",2'], ",")
    [['1', 'a,b', '2'], ['1', 'a\\nb', '2']]
    """
    if len(separator) > 1:
        return [line.split(separator) for line in lines]
    try:
        # A carriage return inside a field would end it for csv, though not for the fast parser.
        prepared = (line.replace("\r", " ") + "\n" for line in lines)
        return list(csv.reader(prepared, delimiter=separator))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _stated_separator(format: FormatChoice, lines: list[str]) -> str:
    """Separator a stated format implies, "" where it has to be found."""
    separator = FORMAT_SEPARATOR.get(format, "")
    if format == "dat" and "::" not in lines[0]:
        return ""
    return separator


def _guess_separator(lines: list[str], label: str) -> str:
    if all(line.count("::") >= MIN_COLUMNS - 1 for line in lines[:10]):
        return "::"
    best = _best_separator(lines, split_lines)
    if not best and any('"' in line for line in lines):
        # A quote that never closes swallows all lines after it; the reader then names its line.
        best = _best_separator(lines, lambda lines, mark: [line.split(mark) for line in lines])
    if not best:
        shown = "lines are " if lines[1:] else "line is "
        shown += ", ".join(shorten(line) for line in lines[:2])
        raise DataError(
            f"{label}: no separator (tab, comma, semicolon, bar, space or ::) splits the lines "
            f"into {MIN_COLUMNS} columns or more; the first {shown}. "
            "Give an interaction log with user, item and time."
        )
    return best


def _best_separator(
    lines: list[str], split: Callable[[Sequence[str], str], list[list[str]]]
) -> str:
    """The separator that splits most lines into the same number of columns; "" if none does."""
    best, best_share = "", 0.0
    for candidate in SEPARATORS:
        widths = [len(record) for record in split(lines, candidate)]
        if widths[0] < MIN_COLUMNS:
            continue
        usual = max(set(widths), key=widths.count)
        share = widths.count(usual) / len(widths)
        if usual >= MIN_COLUMNS and share > best_share:
            best, best_share = candidate, share
    return best


def _too_narrow(first: list[str], lines: list[str], separator: str, label: str) -> DataError:
    """Describe a stated separator that leaves too few columns, naming one that does better."""
    try:
        better = _guess_separator(lines, label)
    except DataError:
        better = ""
    hint = f" {better!r} would give {len(split_lines(lines, better)[0])}." if better else ""
    return DataError(
        f"{label}: {separator!r} splits the first line {shorten(lines[0])} into {len(first)} "
        f"column(s); at least {MIN_COLUMNS} are needed.{hint} Set data.format (or auto)."
    )


def _name_format(format: FormatChoice, separator: str) -> Format:
    if format == "auto":
        format = "tsv" if separator == "\t" else "dat" if separator == "::" else "csv"
    return format


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_value(text: str) -> bool:
    return _is_number(text) or ISO.match(text) is not None


def _is_header(
    first: list[str], following: Sequence[list[str]], requested: Mapping[Role, str]
) -> bool:
    """A header holds a known name, or text where the next record holds numbers or dates."""
    if any(is_known_name(name, requested) for name in first if not _is_value(name)):
        return True
    if any(_is_value(name) for name in first):
        return False
    return any(_is_value(field.strip()) for record in following for field in record)


def _guess_roles(first: list[str]) -> dict[Role, str]:
    """Roles of the two usual layouts without header: user item [rating] time."""
    if len(first) == 4 and _is_number(first[2]) and _is_value(first[3]):
        roles: tuple[Role, ...] = ("user_id", "item_id", "rating", "timestamp")
    elif len(first) == 3 and _is_value(first[2]):
        roles = ("user_id", "item_id", "timestamp")
    else:
        return {}
    return {role: f"column_{i + 1}" for i, role in enumerate(roles)}
