"""Counts of kills, kept in a file that grows with every kill: ended early, nothing is lost."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Tally:
    """What came of the kills of one stage."""

    stage: str
    seconds: float
    """Unbroken."""
    kills: int = 0
    by_mode: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    ended_first: int = 0
    """Tries that ended before the kill; they count as none."""
    failures: list[str] = field(default_factory=list)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Tally:
        """What earlier calls counted."""
        counters = {name: Counter(row[name]) for name in ("by_mode", "truncated")}
        return cls(**{**row, **counters})

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **vars(self),
            "seconds": round(self.seconds, 3),
            "by_mode": dict(self.by_mode),
            "truncated": dict(self.truncated.most_common()),
        }


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Results by stage; none where there is no file."""
    known = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else []
    return {row["stage"]: row for row in known}


def write_row(path: Path, row: dict[str, Any], order: Iterable[str]) -> None:
    """Write the result of a stage in one step; those of the others stay.

    Args:
        path: File of all results.
        row: Of one stage.
        order: Names of all stages, as they are listed.
    """
    by_name = {**read_rows(path), row["stage"]: row}
    kept = [by_name[name] for name in order if name in by_name]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"stages": kept}, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
