"""What a run logs, first written to disk: one append-only file per run, delivered to MLflow later.

Logging to a file costs microseconds, survives a tracking server that is away and a process that
is killed, and says on resumption how far the log had come. `delivery` carries the records on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.redaction import hide_secrets

Record = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One record of a journal and the byte at which the next one begins."""

    record: Record
    end: int


class Journal:
    """An append-only file of JSON records. Appends are whole: a torn one is skipped when read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, records: Iterable[Record]) -> None:
        """Add records in one write. Never raises for values: what JSON can't hold becomes text."""
        lines = "".join(json.dumps(record, default=str) + "\n" for record in records)
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._offset_path.exists() and self.delivered() == 0:
            # The journal lost records that were delivered: it is delivered anew from its start.
            self._offset_path.unlink()
        with self.path.open("ab+") as file:
            # A process killed while writing leaves half a line; the next record starts anew.
            if file.seek(0, os.SEEK_END) and not _ends_with_newline(file):
                lines = "\n" + lines
            file.write(hide_secrets(lines).encode())

    def entries(self, offset: int = 0) -> Iterator[Entry]:
        """Yield records from byte ``offset`` on; a line that was cut off yields an empty one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield Entry(_parse(line), offset)

    def delivered(self) -> int:
        """Bytes already delivered; 0, delivered anew, where the mark is none of this journal."""
        try:
            offset = int(self._offset_path.read_text())
            return offset if self._is_border(offset) else 0
        except (FileNotFoundError, ValueError):
            return 0

    def _is_border(self, offset: int) -> bool:
        """Whether a record ends at a byte: a mark that a power cut shortened points into one."""
        if not 0 < offset <= self.path.stat().st_size:
            return False
        with self.path.open("rb") as file:
            file.seek(offset - 1)
            return file.read(1) == b"\n"

    def mark_delivered(self, offset: int) -> None:
        """Remember that everything before byte ``offset`` arrived."""
        partial = self._offset_path.with_suffix(".tmp")
        partial.write_text(str(offset))
        os.replace(partial, self._offset_path)

    def num_waiting(self) -> int:
        """Records not delivered yet."""
        return sum(1 for _ in self.entries(self.delivered()))

    def flush(self) -> None:
        """Have the system write the journal to the disk; what is delivered must not be lost."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the journal and its mark."""
        self.path.unlink(missing_ok=True)
        self._offset_path.unlink(missing_ok=True)

    @property
    def _offset_path(self) -> Path:
        return self.path.with_suffix(".delivered")


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _parse(line: bytes) -> Record:
    """The record of a line; empty for one that was cut off, `unreadable` for any other text."""
    text = line.decode(errors="replace").strip()
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        was_cut = text.startswith("{") and (not text.endswith("}") or error.pos >= len(text))
        return {} if was_cut or not text else {"unreadable": text}
    return record if isinstance(record, dict) and record else {"unreadable": text}
