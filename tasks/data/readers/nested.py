"""Flat names for nested columns: ``events.aid`` is field ``aid`` of the list ``events``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from tasks.data.readers.columns import SETTING
from tasks.data.readers.errors import DataError
from tasks.data.readers.report import Role


@dataclass(frozen=True)
class Leaf:
    """A scalar inside a schema.

    Attributes:
        path: Names from the top-level column down.
        list_depth: Number of leading names whose value is a list to be unrolled, or 0.
        dtype: Type of the scalar.
    """

    path: tuple[str, ...]
    list_depth: int
    dtype: pl.DataType


def flatten_schema(schema: Mapping[str, pl.DataType]) -> dict[str, Leaf]:
    """List every column and every field below it under a dotted name.

    >>> names = flatten_schema({"u": pl.Int64, "e": pl.List(pl.Struct({"i": pl.Int64}))})
    >>> sorted(names)
    ['e.i', 'u']
    """
    leaves: dict[str, Leaf] = {}
    for name, dtype in schema.items():
        _collect((name,), 0, dtype, leaves)
    return leaves


def _collect(
    path: tuple[str, ...], list_depth: int, dtype: pl.DataType, leaves: dict[str, Leaf]
) -> None:
    if isinstance(dtype, pl.List) and list_depth == 0:
        _collect(path, len(path), dtype.inner, leaves)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            _collect((*path, field.name), list_depth, field.dtype, leaves)
    else:
        leaves[".".join(path)] = Leaf(path, list_depth, dtype)


def select_leaves(
    lazy: pl.LazyFrame, columns: Mapping[Role, str], leaves: Mapping[str, Leaf], label: str
) -> pl.LazyFrame:
    """Return one column per role and ``record``, with a list of events unrolled to rows.

    Args:
        lazy: The log, with a column ``record`` counting its records.
        columns: Role -> flat name.
        leaves: The flat names of the log.
        label: The file, for messages.

    Raises:
        DataError: A role's column is no scalar, or two different lists would be unrolled.
    """
    lists = {}
    for role, name in columns.items():
        leaf = leaves[name]
        if isinstance(leaf.dtype, pl.List | pl.Array | pl.Object) or leaf.dtype == pl.Binary:
            raise DataError(
                f"{label}: column {name!r} for {role} holds {leaf.dtype}, not a value; expected "
                f"text or a number. Set {SETTING[role]} to another column, "
                "or write the log again."
            )
        if leaf.list_depth:
            lists[leaf.path[: leaf.list_depth]] = name
    if len(lists) > 1:
        raise DataError(
            f"{label}: {', '.join(map(repr, lists.values()))} lie in different lists, whose "
            "elements do not belong together. Choose columns of one list."
        )
    for prefix in lists:
        lazy = lazy.with_columns(unrolled=_descend(prefix)).explode("unrolled")
    return lazy.select(
        "record",
        **{
            role: _descend(leaves[name].path)
            if not leaves[name].list_depth
            else _descend(("unrolled", *leaves[name].path[leaves[name].list_depth :]))
            for role, name in columns.items()
        },
    )


def _descend(path: tuple[str, ...]) -> pl.Expr:
    expression = pl.col(path[0])
    for name in path[1:]:
        expression = expression.struct.field(name)
    return expression
