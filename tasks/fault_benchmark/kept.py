"""Results of the scored campaign, small enough to be kept in the repository."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Iterable
from pathlib import Path

from tasks.fault_benchmark.rows import Row

KEPT = Path("fault_benchmark") / "scored.jsonl.gz"
LONGEST = 400
"""Characters of a first line that are kept."""


def keep(path: Path, rows: Iterable[Row]) -> None:
    """Write rows without the sentences of single questions; equal rows give equal bytes."""
    text = "".join(f"{_short(row).to_json()}\n" for row in sorted(rows, key=lambda row: row.key))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_kept(path: Path) -> list[Row]:
    """Undo `keep`; [] where there is no file."""
    if not path.is_file():
        return []
    return [
        Row.from_json(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def _short(row: Row) -> Row:
    reds = tuple(dataclasses.replace(red, sentence="") for red in row.reds)
    return dataclasses.replace(row, reds=reds, headline=row.headline[:LONGEST])
