"""Where rows stand in a text file; used for the few rows that can't be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_TEXT = 500
"""Characters of a broken row kept for the quarantine."""

CHUNK = 2**24


def find_byte(data: bytes, byte: bytes) -> np.ndarray:
    """Return the int64 offsets of a byte, in chunks that bound the memory used.

    >>> find_byte(b"a,b,", b",").tolist()
    [1, 3]
    """
    view = np.frombuffer(data, dtype=np.uint8)
    found = [
        np.flatnonzero(view[start : start + CHUNK] == byte[0]) + start
        for start in range(0, len(view), CHUNK)
    ]
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)


class RecordIndex:
    """Offsets and line numbers of the records of a delimited text.

    A record ends at a line feed outside quotes, so that a quoted field may span lines.

    Args:
        data: UTF-8 text.
        quoted: True if ``"`` quotes fields.
        num_header_records: Records before the first data row.
    """

    def __init__(self, data: bytes, *, quoted: bool, num_header_records: int) -> None:
        feeds = find_byte(data, b"\n")
        ends = feeds
        if quoted:
            quotes = find_byte(data, b'"')
            ends = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
        self._data = data
        self._starts = np.concatenate([[0], ends + 1])[num_header_records:]
        self._ends = np.concatenate([ends, [len(data)]])[num_header_records:]
        self._lines = 1 + np.searchsorted(feeds, self._starts)

    def locate(self, rows: Sequence[int]) -> list[tuple[int | None, str]]:
        """Return line number (1-based) and text of data rows (0-based)."""
        found: list[tuple[int | None, str]] = []
        for row in rows:
            if row >= len(self._starts):
                found.append((None, ""))
                continue
            piece = self._data[self._starts[row] : self._ends[row]][: 4 * MAX_TEXT]
            text = piece.decode("utf-8", errors="replace").rstrip("\r")[:MAX_TEXT]
            found.append((int(self._lines[row]), text))
        return found
