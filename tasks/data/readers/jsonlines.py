"""Read JSON lines: one object per line, events flat or in a nested list."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from tasks.data.readers.columns import resolve_columns
from tasks.data.readers.errors import DataError
from tasks.data.readers.json_records import JsonRecords
from tasks.data.readers.nested import Leaf, flatten_schema, select_leaves
from tasks.data.readers.packing import RawLog
from tasks.data.readers.report import RawTable, Role
from tasks.data.readers.text import as_utf8, repair


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
    records = JsonRecords(data, log.label)
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
