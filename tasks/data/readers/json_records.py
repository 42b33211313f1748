"""The lines of a JSON-lines file, with those that are no usable object told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.lines import MAX_TEXT
from tasks.data.readers.report import UNPARSED_SCHEMA, Locator

SAMPLE_LINES = 1000
HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a surrogate pair, no character; the fast parser makes something else of some of them."""


class _Line(NamedTuple):
    record: int
    number: int
    content: bytes
    fault: str


class JsonRecords:
    """The lines of a file, with those that are no JSON object told apart when one is met."""

    def __init__(self, data: bytes, label: str) -> None:
        self._data, self._label = data, label
        self._bad: dict[int, tuple[int, str, str]] = {}
        self.num_blank = 0

    def infer_schema(self) -> dict[str, pl.DataType]:
        """Return the schema of the first objects."""
        merged: dict = {}
        start = num_objects = 0
        while num_objects < SAMPLE_LINES and start < len(self._data):
            end = self._data.find(b"\n", start)
            end = len(self._data) if end < 0 else end
            value = _parse(self._data[start:end].strip())[0]
            if value is not None:
                merged = _merge(merged, value)
                num_objects += 1
            start = end + 1
        if not num_objects:
            first = self._data.lstrip()[:80].decode("utf-8", errors="replace").split("\n")[0]
            raise DataError(
                f"{self._label} holds no JSON object; the first line is {shorten(first)}. "
                "Expected one object per line."
            )
        return {name: _infer_dtype(shape) for name, shape in merged.items()}

    def read(self, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Parse all lines; ``record`` counts the lines that are not blank."""
        if HALF_PAIR.search(self._data):
            return self._read_good_lines(schema)
        try:
            frame = pl.read_ndjson(self._data, schema=schema)
        except pl.exceptions.PolarsError:
            return self._read_good_lines(schema)
        num_lines = self._data.count(b"\n") + (not self._data.endswith(b"\n"))
        self.num_blank = num_lines - len(frame)
        return frame.with_row_index("record").lazy()

    def _read_good_lines(self, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        self.num_blank = record = 0
        lines: list[_Line] = []
        for line_number, line in enumerate(self._data.split(b"\n"), start=1):
            if not line.strip():
                self.num_blank += 1
                continue
            value, fault = _parse(line.strip())
            fault = fault or _find_misfit(value, pl.Struct(schema), "line")
            lines.append(_Line(record, line_number, line, fault))
            record += 1
        frames, refused = _read_in_halves([line for line in lines if not line.fault], schema)
        for line in sorted([*refused, *(line for line in lines if line.fault)]):
            self._bad[line.record] = (line.number, line.fault, _show(line.content))
        return pl.concat(frames or [_empty(schema)]).lazy()

    def number_rows(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Add ``row``: events counted in file order, a broken line counting as one."""
        bad_records = np.fromiter(self._bad, dtype=np.int64, count=len(self._bad))
        records = frame["record"].to_numpy().astype(np.int64)
        rows = np.arange(len(records)) + np.searchsorted(bad_records, records)
        bad_rows = np.searchsorted(records, bad_records) + np.arange(len(bad_records))
        broken = pl.DataFrame(
            [(int(row), *fault) for row, fault in zip(bad_rows, self._bad.values(), strict=True)],
            schema=UNPARSED_SCHEMA,
            orient="row",
        )
        return frame.with_columns(row=pl.Series(rows, dtype=pl.Int64)), broken

    def make_locator(self, frame: pl.DataFrame) -> Locator:
        """Return a locator for rows of ``frame``."""

        def locate(rows: list[int]) -> list[tuple[int | None, str]]:
            lines = [
                (number, line)
                for number, line in enumerate(self._data.split(b"\n"), start=1)
                if line.strip()
            ]
            record_of = dict(frame.filter(pl.col("row").is_in(rows)).select("row", "record").rows())
            found = []
            for row in rows:
                number, line = lines[record_of[row]]
                found.append((number, _show(line)))
            return found

        return locate


def _show(line: bytes) -> str:
    return line[: 4 * MAX_TEXT].decode("utf-8", errors="replace")[:MAX_TEXT]


def _empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema={**schema, "record": pl.UInt32})


def _read_in_halves(
    lines: Sequence[_Line], schema: Mapping[str, pl.DataType]
) -> tuple[list[pl.DataFrame], list[_Line]]:
    """Parse lines, halving a part that fails until the lines to blame stand alone.

    The fast parser is stricter than Python's: it refuses numbers beyond float64, for example.
    """
    if not lines:
        return [], []
    try:
        frame = pl.read_ndjson(b"\n".join(line.content for line in lines), schema=schema)
    except pl.exceptions.PolarsError as error:
        if len(lines) == 1:
            return [], [lines[0]._replace(fault=f"line can't be parsed: {str(error)[:100]}")]
        middle = len(lines) // 2
        left = _read_in_halves(lines[:middle], schema)
        right = _read_in_halves(lines[middle:], schema)
        return left[0] + right[0], left[1] + right[1]
    records = pl.Series([line.record for line in lines], dtype=pl.UInt32)
    return [frame.with_columns(record=records)], []


def _parse(line: bytes) -> tuple[dict | None, str]:
    """Return the object on a line, or None and what is wrong with it ("" for a blank line)."""
    if not line:
        return None, ""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"line is no JSON: {str(error)[:100]}"
    if not isinstance(value, dict):
        return None, f"line is a JSON {type(value).__name__}, no object"
    if HALF_PAIR.search(line) and not _is_text(value):
        return None, "line holds half of a surrogate pair, which is no character"
    return value, ""


def _is_text(value: dict) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _merge(shape: object, value: object) -> object:
    """Add a value to what is known of a field: a dict of fields, a list of one shape, or None.

    Where lines disagree, the first one that is no scalar counts.
    """
    if isinstance(shape, dict | list) and not isinstance(value, type(shape)):
        return shape
    if isinstance(value, dict):
        known = shape if isinstance(shape, dict) else {}
        return known | {name: _merge(known.get(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        inner = shape[0] if isinstance(shape, list) else None
        for element in value:
            inner = _merge(inner, element)
        return [inner]
    return shape


def _infer_dtype(shape: object) -> pl.DataType:
    """Return the type of a field, every scalar as text."""
    if isinstance(shape, dict) and shape:
        return pl.Struct({name: _infer_dtype(inner) for name, inner in shape.items()})
    if isinstance(shape, list):
        return pl.List(_infer_dtype(shape[0]))
    return pl.String()


def _find_misfit(value: object, dtype: pl.DataType, name: str) -> str:
    """Say which field has not the shape the first lines showed; "" where all fit."""
    if value is None:
        return ""
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return f"{name} is a {type(value).__name__}, no object"
        faults = (_find_misfit(value.get(f.name), f.dtype, f.name) for f in dtype.fields)
        return next(filter(None, faults), "")
    if isinstance(dtype, pl.List):
        if not isinstance(value, list):
            return f"{name} is a {type(value).__name__}, no list"
        return next(filter(None, (_find_misfit(v, dtype.inner, name) for v in value)), "")
    return ""
