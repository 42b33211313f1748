"""X7. Does every event carry its own time, valid and on one scale?

Reads: prepared times joined with the raw log by row number; times inside training batches where the
model reads them, which is seen by moving them.

Rule: the time of an event is that of its row of the log; times never go backwards within a
sequence; the times of a window are those of its events. Exact. Microseconds since 1970 lie between
1970 and 2100; a mixture of scales (s, ms) leaves that range or goes backwards.

Limits: zero.

The same picture from elsewhere: sequences out of order (`events_in_time_order`) have times that go
backwards without any of them being wrong; the join tells the two apart.

It can't tell: whether the clock that wrote the log was right.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import log_join, time_influence, window_times
from tasks.diagnostics.measurements.log_join import LogJoin
from tasks.diagnostics.measurements.time_influence import TimeUse
from tasks.diagnostics.measurements.window_times import WindowTimes
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {"count": Limit(0, "identity: one time per row of the log")}


@dataclass(frozen=True)
class Evidence:
    """Times in prepared sequences and in windows."""

    join: LogJoin
    windows: WindowTimes
    use: TimeUse
    uses_times: bool = quantity("the model is declared to read times")


def measure(probe: Probe) -> Evidence:
    """Join times with the log, windows with sequences."""
    return Evidence(
        join=probe.evidence(log_join.measure),
        windows=probe.evidence(window_times.measure),
        use=probe.evidence(time_influence.measure_use),
        uses_times=probe.subject.declared.uses_times,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Times where they belong."""
    join, windows, limit = evidence.join, evidence.windows, limits["count"]
    other = exact(
        "number of events with another time than their row of the log",
        join.wrong_time,
        limit,
        "time",
        "keep user, item and time of a row together through every sort and filter",
        unit="events",
        where=join.first_wrong_time,
    )
    invalid = exact(
        "number of events whose time lies outside 1970 to 2100",
        windows.out_of_range,
        limit,
        "time",
        "convert every timestamp to one unit; drop rows without a time and count them",
        unit="events",
    )
    backwards = exact(
        "number of consecutive events whose stored times go backwards",
        join.stored_reversals,
        limit,
        "time",
        "convert every timestamp to one unit before sorting",
        unit="events",
        explained_by=("order",) if join.wrong_time == 0 else (),
    )
    window = exact(
        "number of window positions with another time than their event",
        windows.wrong_positions,
        limit,
        "time",
        "cut times with the same indices as items",
        unit="positions",
        where=windows.first_wrong,
        missing="times in the training batches",
        proof=evidence.use.proof(evidence.uses_times),
        essential=evidence.uses_times,
        explained_by=("format", "align"),
    )
    return QUESTION.finding(evidence, other, invalid, backwards, window)


QUESTION = Question(
    id="timestamps_aligned",
    number="X7",
    title="Does every event carry its own time, valid and on one scale?",
    stages=("time",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
