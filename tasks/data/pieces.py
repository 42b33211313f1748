"""Cuts a log that is too large for memory into files that can be read one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import polars as pl

from tasks.data.readers.errors import DataError
from tasks.data.readers.packing import RawLog, open_log

LARGE_BYTES = 2**30
"""Plain logs from this size on are read in pieces."""

PIECE_BYTES = 2**27
"""Text of a piece; about 5 million events."""

PIECE_ROWS = 2**22
"""Rows of a piece of Parquet."""

READ_BYTES = 2**22
Kind = Literal["text", "parquet"]


@dataclass(frozen=True)
class Piece:
    """One piece of a log.

    Attributes:
        path: File that holds it, named as the log; the next piece takes its place.
        first_row: Number of its first data row in the log, from 0.
    """

    path: Path
    first_row: int


def kind_of_pieces(path: str | Path, large_bytes: int = LARGE_BYTES) -> Kind | None:
    """How a log can be cut; None for one that is read at once.

    That are small and packed logs, JSON, Parquet with lists of events, and text with quotes or in
    an encoding whose lines can't be told by a byte.

    Args:
        path: The log, as `read_interactions` takes it.
        large_bytes: Size from which on a log is cut.

    Raises:
        DataError: The file is missing, damaged or of a foreign format.
    """
    if not os.path.isfile(path) or os.path.getsize(path) < large_bytes:
        return None
    log = open_log(path)
    if log.data is not None:
        return None
    head = log.head()
    if head.startswith(b"PAR1"):
        return "parquet" if _is_flat(log) else None
    is_json = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    if is_json or b"\0" in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    return None if _has_quotes(log.path) else "text"


def cut(
    path: Path, kind: Kind, folder: Path, *, size: int = 0, has_header: bool = True
) -> Iterator[Piece]:
    """Write the pieces of a log one after the other.

    Args:
        path: The log.
        kind: What `kind_of_pieces` said.
        folder: Where the file with the present piece is written.
        size: Bytes of text or rows of Parquet in a piece; 0 takes the usual.
        has_header: Whether the first line of text names the columns; every piece begins with it.
    """
    target = folder / path.name
    if kind == "parquet":
        yield from _cut_parquet(path, target, size or PIECE_ROWS)
    else:
        yield from _cut_text(path, target, size or PIECE_BYTES, has_header)
    target.unlink()


def _cut_text(path: Path, target: Path, size: int, has_header: bool) -> Iterator[Piece]:
    first_row = 0
    with path.open("rb") as file:
        header = _read_header(file, has_header)
        while body := file.read(size):
            body += file.readline()
            with target.open("wb") as piece:
                piece.write(header)
                piece.write(body)
            yield Piece(target, first_row)
            first_row += body.count(b"\n")


def _read_header(file: IO[bytes], has_header: bool) -> bytes:
    """Read blank lines at the beginning, which are no data, and the names of the columns."""
    header = b""
    while line := file.readline():
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            if has_header:
                return header + line
            file.seek(-len(line), os.SEEK_CUR)
            return header
        header += line
    return header


def _cut_parquet(path: Path, target: Path, size: int) -> Iterator[Piece]:
    lazy = pl.scan_parquet(path, glob=False)
    try:
        num_rows = lazy.select(pl.len()).collect().item()
        for first_row in range(0, num_rows, size):
            lazy.slice(first_row, size).sink_parquet(target)
            yield Piece(target, first_row)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).split("\n", 1)[0][:200]
        raise DataError(f"{path.name} can't be read to its end ({reason}). Write it again.") from (
            error
        )


def _is_flat(log: RawLog) -> bool:
    try:
        schema = pl.scan_parquet(log.path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        # Read at once, it is named as damaged.
        return False
    return not any(dtype.is_nested() for dtype in schema.values())


def _has_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b'"' in block for block in iter(lambda: file.read(READ_BYTES), b""))
