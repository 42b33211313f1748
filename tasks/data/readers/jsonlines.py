"""Read JSON lines: one object per line, events flat or in a nested list."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import polars as pl

from tasks.data.readers.columns import resolve_columns
from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.lines import MAX_TEXT
from tasks.data.readers.nested import Leaf, flatten_schema, select_leaves
from tasks.data.readers.packing import RawLog
from tasks.data.readers.report import UNPARSED_SCHEMA, Locator, RawTable, Role
from tasks.data.readers.text import as_utf8, repair

SAMPLE_LINES = 1000


def read_json_lines(log: RawLog, *, requested: Mapping[Role, str]) -> RawTable:
    """Read the fields asked for as text.

    Lines that are no JSON object are set aside with their line number.

    Raises:
        DataError: The file is a JSON array, holds no object, or lacks a field.
    """
    text = as_utf8(log)
    data = text.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        text = repair(text)
        data = text.read_bytes()
    if data.lstrip()[:1] == b"[":
        raise DataError(
            f"{log.label} is one JSON array; expected one object per line (JSON lines). "
            f"Convert it, for example with `jq -c '.[]' {log.path.name}`."
        )
    records = _Records(data, log.label)
    leaves = flatten_schema(records.infer_schema())
    columns = resolve_columns(list(leaves), requested, log.label)
    lazy = records.read(_prune({leaves[name].path: leaves[name] for name in columns.values()}))
    frame = select_leaves(lazy, columns, leaves, log.label).collect()
    frame, broken = records.number_rows(frame)
    return RawTable(
        frame=frame,
        locate=records.make_locator(frame),
        format="jsonl",
        columns=columns,
        found_columns=tuple(leaves),
        encoding=text.encoding,
        has_header=True,
        broken=broken,
        num_blank_lines=records.num_blank,
        is_lossy=text.is_lossy,
        warnings=text.warnings,
    )


def _prune(leaves: Mapping[tuple[str, ...], Leaf]) -> dict[str, pl.DataType]:
    """Build a schema that holds the wanted leaves alone, every one as text."""
    tree: dict = {}
    for path, leaf in leaves.items():
        node = tree
        for depth, name in enumerate(path, start=1):
            is_list = depth == leaf.list_depth
            node = node.setdefault(name, (is_list, {}))[1]
    return {name: _to_dtype(*node) for name, node in tree.items()}


def _to_dtype(is_list: bool, children: Mapping[str, tuple]) -> pl.DataType:
    fields = {name: _to_dtype(*node) for name, node in children.items()}
    inner = pl.Struct(fields) if fields else pl.String()
    return pl.List(inner) if is_list else inner


class _Records:
    """The lines of a file, with those that are no JSON object told apart when one is met."""

    def __init__(self, data: bytes, label: str) -> None:
        self._data, self._label = data, label
        self._bad: dict[int, tuple[int, str, str]] = {}
        self.num_blank = 0

    def infer_schema(self) -> dict[str, pl.DataType]:
        """Return the schema of the first objects."""
        sample: list[bytes] = []
        start = 0
        while len(sample) < SAMPLE_LINES and start < len(self._data):
            end = self._data.find(b"\n", start)
            end = len(self._data) if end < 0 else end
            line = self._data[start:end].strip()
            if _find_fault(line) == "":
                sample.append(line)
            start = end + 1
        if not sample:
            first = self._data.lstrip()[:80].decode("utf-8", errors="replace").split("\n")[0]
            raise DataError(
                f"{self._label} holds no JSON object; the first line is {shorten(first)}. "
                "Expected one object per line."
            )
        return dict(pl.read_ndjson(b"\n".join(sample), infer_schema_length=None).schema)

    def read(self, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Parse all lines; ``record`` counts the lines that are not blank."""
        try:
            frame = pl.read_ndjson(self._data, schema=schema)
        except pl.exceptions.ComputeError:
            return self._read_good_lines(schema)
        return frame.with_row_index("record").lazy()

    def _read_good_lines(self, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        good, numbers = [], []
        record = 0
        for line_number, line in enumerate(self._data.split(b"\n"), start=1):
            fault = _find_fault(line.strip())
            if fault is None:
                continue
            if fault:
                content = line[: 4 * MAX_TEXT].decode("utf-8", errors="replace")[:MAX_TEXT]
                self._bad[record] = (line_number, fault, content)
            else:
                good.append(line)
                numbers.append(record)
            record += 1
        try:
            frame = pl.read_ndjson(b"\n".join(good), schema=schema)
        except pl.exceptions.ComputeError as error:
            raise DataError(f"{self._label} can't be read as JSON lines: {error}.") from error
        return frame.with_columns(record=pl.Series(numbers, dtype=pl.UInt32)).lazy()

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
                found.append((number, line[: 4 * MAX_TEXT].decode("utf-8", "replace")[:MAX_TEXT]))
            return found

        return locate


def _find_fault(line: bytes) -> str | None:
    """Return "" for a JSON object, None for a blank line, else what is wrong."""
    if not line:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"line is no JSON: {str(error)[:100]}"
    return "" if isinstance(value, dict) else f"line is a JSON {type(value).__name__}, no object"
