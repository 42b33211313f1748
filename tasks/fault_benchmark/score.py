"""Scores rows of results: what was detected, what was localised, what was a false alarm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.fault_benchmark.kill import Kill
from tasks.fault_benchmark.plan import Catalogue, Job, clean_job
from tasks.fault_benchmark.rows import Row
from tasks.fault_benchmark.runner import DETECTING_RULES
from tasks.faults.fault import Fault

CONFIDENCE = 1.959963984540054
"""Standard normal quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Rate:
    """A share with its Wilson interval (Wilson 1927).

    Attributes:
        hits: Cases that count.
        total: All cases.
    """

    hits: int
    total: int

    @property
    def share(self) -> float:
        """Hits over total; NaN where there is no case."""
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the 95 % interval.

        >>> low, high = Rate(300, 300).interval
        >>> round(low, 4), round(high, 4)
        (0.9874, 1.0)
        """
        if not self.total:
            return (0.0, 1.0)
        square = CONFIDENCE**2 / self.total
        centre = (self.share + square / 2) / (1 + square)
        variance = self.share * (1 - self.share) / self.total + square / (4 * self.total)
        half = CONFIDENCE * math.sqrt(variance) / (1 + square)
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits}/{self.total} = {self.share:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Verdict:
    """How the diagnosis of one fault run is judged.

    Attributes:
        row: The run.
        fault: Its label.
        detected: Some question turned red by an identity, a recomputation or an intervention,
            and was not red on the clean program.
        expected: One of the expected questions is among those red.
        stage: The report names a right stage first.
        stage_among: A right stage is among those red.
        seen: Anything turned red at all, symptoms included.
        wrong_reds: Questions that turned red although the label says they must be quiet.
    """

    row: Row
    fault: Fault
    detected: bool
    expected: bool
    stage: bool
    stage_among: bool
    seen: bool
    wrong_reds: tuple[str, ...] = ()

    @property
    def localised(self) -> bool:
        """The right question is red and the right stage is named."""
        return self.detected and self.expected and self.stage


@dataclass(frozen=True)
class Alarm:
    """A question red on a healthy or clean program, or one that failed there."""

    row: Row
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """All of it.

    Attributes:
        verdicts: One per run of a fault.
        alarms: Runs of healthy and clean programs that were not green.
        healthy_runs: Runs of healthy variants and clean programs.
        inert: Faults that change nothing, each with the log: `id@log`.
        untested: Ids of faults nobody ran the kill test on.
        fired: Question -> ids of faults that turned it red.
    """

    verdicts: tuple[Verdict, ...]
    alarms: tuple[Alarm, ...]
    healthy_runs: tuple[Row, ...]
    inert: frozenset[str]
    untested: frozenset[str]
    fired: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of_kind(self, *kinds: str, with_inert: bool = False) -> list[Verdict]:
        """Return the verdicts on faults of some groups."""
        return [
            verdict
            for verdict in self.verdicts
            if verdict.row.kind in kinds and (with_inert or not self.is_inert(verdict.row))
        ]

    def is_inert(self, row: Row) -> bool:
        """Whether the fault changes nothing, or nothing on the log of this run."""
        return place(row) in self.inert

    @property
    def false_alarms(self) -> Rate:
        """Healthy runs with a red question."""
        return Rate(sum(bool(a.questions) for a in self.alarms), len(self.healthy_runs))


def rate(verdicts: Sequence[Verdict], name: str) -> Rate:
    """Return the share of verdicts in which `name`, a field or property, holds."""
    return Rate(sum(bool(getattr(verdict, name)) for verdict in verdicts), len(verdicts))


def as_values(result: Score) -> dict[str, Any]:
    """Return a score as plain values for scripts: rates with their intervals, and the cases."""

    def values(rate: Rate) -> dict[str, Any]:
        share = rate.share if rate.total else None
        return {"hits": rate.hits, "total": rate.total, "share": share, "interval": rate.interval}

    kinds = sorted({verdict.row.kind for verdict in result.verdicts})
    groups = {kind: result.of_kind(kind) for kind in kinds}
    return {
        "faults": {
            kind: {
                name: values(rate(verdicts, name))
                for name in ("detected", "expected", "stage", "localised")
            }
            for kind, verdicts in groups.items()
        },
        "missed": sorted({v.row.id for found in groups.values() for v in found if not v.detected}),
        "false_alarms": values(result.false_alarms),
        "alarms": [
            {"id": alarm.row.id, "seed": alarm.row.seed, "questions": list(alarm.questions)}
            for alarm in result.alarms
        ],
        "inert": sorted(result.inert),
        "untested": sorted(result.untested),
    }


def score(rows: Iterable[Row], catalogue: Catalogue, kills: Mapping[str, Kill]) -> Score:
    """Judge rows of results.

    Args:
        rows: One per job.
        catalogue: The labels.
        kills: Results of the kill test by fault id; faults without one count as live.
    """
    by_key = {row.key: row for row in rows}
    verdicts, alarms, healthy = [], [], []
    fired: dict[str, set[str]] = {}
    for row in by_key.values():
        if row.kind in ("healthy", "clean"):
            healthy.append(row)
            questions = tuple(red.question for red in row.reds) + row.failed
            if questions or row.crashed:
                alarms.append(Alarm(row, questions or (f"crashed: {row.crashed}",)))
            continue
        if row.id not in catalogue.faults:
            continue
        fault = catalogue.faults[row.id][1]
        verdict = judge(row, fault, _reds_of_clean(row, catalogue, by_key))
        verdicts.append(verdict)
        for red in row.reds:
            fired.setdefault(red.question, set()).add(row.id)
    ids = {verdict.row.id for verdict in verdicts}
    tested = {place(v.row): kills.get(place(v.row), kills.get(v.row.id)) for v in verdicts}
    return Score(
        verdicts=tuple(verdicts),
        alarms=tuple(alarms),
        healthy_runs=tuple(healthy),
        inert=frozenset(name for name, kill in tested.items() if kill and not kill.killed),
        untested=frozenset(id for id in ids if id not in kills),
        fired={question: frozenset(found) for question, found in fired.items()},
    )


def place(row: Row) -> str:
    """Return the name under which the kill test of a fault on one log is kept."""
    return f"{row.id}@{row.data}"


def judge(row: Row, fault: Fault, red_when_clean: frozenset[str]) -> Verdict:
    """Judge one run of a fault.

    A question that failed by a bug of its own is no detection; neither is a program that could
    not be built.

    Args:
        row: The run.
        fault: Its label.
        red_when_clean: Questions that are red on the program the fault is planted in.
    """
    new = [red for red in row.reds if red.question not in red_when_clean]
    hard = [red for red in new if red.rule in DETECTING_RULES]
    questions = {red.question for red in new}
    return Verdict(
        row=row,
        fault=fault,
        detected=bool(hard),
        expected=bool(questions & fault.expected),
        stage=row.stage in fault.stages,
        stage_among=any(red.stage in fault.stages for red in new),
        seen=bool(new),
        wrong_reds=tuple(sorted(questions & fault.quiet)),
    )


def _reds_of_clean(row: Row, catalogue: Catalogue, by_key: Mapping[tuple, Row]) -> frozenset[str]:
    job = Job(row.kind, row.id, row.model, row.data, row.seed)  # type: ignore[arg-type]
    clean = by_key.get(clean_job(job, catalogue).key)
    return frozenset(red.question for red in clean.reds) if clean else frozenset()
