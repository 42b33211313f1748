"""Results of single runs, one JSON line each, appended the moment a run ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.fault_benchmark.plan import Job

RESULTS = Path(".assay") / "fault_benchmark" / "results.jsonl"


@dataclass(frozen=True)
class Red:
    """One question that turned faulty.

    Attributes:
        question: Its id.
        stage: The stage it blames.
        rule: Class of the rule that decided.
        sentence: What it says.
    """

    question: str
    stage: str
    rule: str
    sentence: str


@dataclass(frozen=True)
class Row:
    """What one diagnosis said.

    Attributes:
        kind, id, model, data, seed: The job.
        code: Digest of the sources it ran with.
        mode: The dearest mode that was run.
        reds: Questions that turned faulty.
        suspects: Ids of questions that turned suspect.
        undetermined: Ids of questions without an answer.
        stage: Stage the report blames, "" when nothing is broken.
        question: Id of the question it names first.
        headline: First line of the report.
        seconds: Processor time of all that was run.
        failed: Questions that failed by a bug of their own; they are neither red nor green.
        crashed: Why there is no diagnosis at all, "" when there is one.
        effort: Of the job.
        extra: What else is worth keeping.
    """

    kind: str
    id: str
    model: str
    data: str
    seed: int
    code: str
    mode: str = "exact"
    reds: tuple[Red, ...] = ()
    suspects: tuple[str, ...] = ()
    undetermined: tuple[str, ...] = ()
    stage: str = ""
    question: str = ""
    headline: str = ""
    seconds: float = 0.0
    failed: tuple[str, ...] = ()
    crashed: str = ""
    effort: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """Identity of the job."""
        return (self.kind, self.id, self.model, self.data, self.seed, self.effort)

    @classmethod
    def of(cls, job: Job, code: str, **values: Any) -> Row:
        """Return the row of a job."""
        kind, id, model, data, seed, effort = job.key
        return cls(kind, id, model, data, seed, code, effort=effort, **values)

    @classmethod
    def from_json(cls, text: str) -> Row:
        """Undo `to_json`."""
        values = json.loads(text)
        values["reds"] = tuple(Red(**red) for red in values["reds"])
        for name in ("suspects", "undetermined", "failed"):
            values[name] = tuple(values[name])
        return cls(**values)

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self), ensure_ascii=False)


def append(path: Path, row: Row) -> None:
    """Add a row: one write, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(target, (row.to_json() + "\n").encode())
        os.fsync(target)
    finally:
        os.close(target)


def read(path: Path) -> list[Row]:
    """Return all rows; a line cut short by a kill is passed over."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.endswith("}"):
            rows.append(Row.from_json(line))
    return rows


def newest(rows: Iterable[Row], code: str = "") -> dict[tuple, Row]:
    """Return the last row of every job.

    Args:
        rows: In the order they were written.
        code: Only rows of this digest; "" takes any.
    """
    return {row.key: row for row in rows if not code or row.code == code}
