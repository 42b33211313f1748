"""Read Parquet, flat or with events in a nested list."""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl

from tasks.data.readers.columns import resolve_columns
from tasks.data.readers.errors import DataError
from tasks.data.readers.nested import flatten_schema, select_leaves
from tasks.data.readers.packing import RawLog
from tasks.data.readers.report import RawTable, Role


def read_parquet(log: RawLog, *, requested: Mapping[Role, str]) -> RawTable:
    """Read the columns asked for with their types.

    Raises:
        DataError: The file is damaged, lacks a column, or a column is no scalar.
    """
    source = log.path if log.data is None else io.BytesIO(log.data)
    try:
        lazy = pl.scan_parquet(source, glob=False)
        schema = dict(lazy.collect_schema())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(
            f"{log.label} is a damaged or unreadable Parquet file ({_first_line(error)}). "
            "Write or download it again."
        ) from error
    leaves = flatten_schema(schema)
    columns = resolve_columns(list(leaves), requested, log.label)
    lazy = select_leaves(lazy.with_row_index("record"), columns, leaves, log.label)
    try:
        frame = lazy.collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(
            f"{log.label} can't be read to its end ({_first_line(error)}). Write it again."
        ) from error
    if frame.is_empty():
        raise DataError(f"{log.label} has columns but no rows. Write or download the log again.")
    frame = frame.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        *(_id_to_text(role, frame.schema[role]) for role in ("user_id", "item_id")),
    )
    return RawTable(
        frame=frame,
        locate=lambda rows: [
            (None, str(values)) for values in frame[list(rows)].drop("record", "row").iter_rows()
        ],
        format="parquet",
        columns=columns,
        found_columns=tuple(leaves),
    )


def _id_to_text(role: str, dtype: pl.DataType) -> pl.Expr:
    """Ids as text; whole floats, which a missing value makes of integers, without ``.0``."""
    column = pl.col(role)
    if not dtype.is_float():
        return column.cast(pl.String)
    is_whole = (column == column.round()) & (column.abs() < 2**53)
    whole = column.cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(is_whole).then(whole).otherwise(column.cast(pl.String)).alias(role)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
