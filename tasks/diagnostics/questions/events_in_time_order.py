"""X2. Are each user's events in time order, and only that user's?

Reads: prepared training sequences joined with the raw log by row number.

Rule: within a sequence the raw times never go backwards, every event belongs to the sequence's
user in the raw log, and no event is used twice. Exact.

Limits: zero. Events with equal times may stand in any order, and an item may come back: neither is
a fault. Rows, not (user, item, time), identify an event.

The same picture from elsewhere: a time column shifted against its rows before sorting also leaves
sequences out of order; then the times disagree with the log (`timestamps_aligned`), which is the
cause.

It can't tell: whether the log itself has wrong times.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import log_join
from tasks.diagnostics.measurements.log_join import LogJoin
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"events": Limit(0, "identity: every event is a row of the log")}


def measure(probe: Probe) -> LogJoin:
    """Join training events with the log."""
    return probe.evidence(log_join.measure)


def judge(evidence: LogJoin, limits: Limits) -> Finding:
    """No event out of order, of another user, or used twice."""
    order = Check(
        name="number of consecutive events whose times go backwards",
        value=evidence.time_reversals,
        unit="events",
        limit=limits["events"],
        stage="order",
        rule="exact",
        where=evidence.first_reversal,
        explained_by=("time",),
        advice=(
            "sort by (user, time, original row) with a stable sort before sequences are cut "
            "(tasks/data/ordering.py)",
        ),
    )
    owner = Check(
        name="number of events that belong to another user or to no row of the log",
        value=evidence.wrong_user + evidence.unknown_rows,
        unit="events",
        limit=limits["events"],
        stage="order",
        rule="exact",
        where=evidence.first_wrong_user,
        advice=("check that users, items and times are permuted together, never one column alone",),
    )
    once = Check(
        name="number of events used more than once",
        value=evidence.repeated_rows,
        unit="events",
        limit=limits["events"],
        stage="split",
        rule="exact",
        advice=("look for a join or concatenation that repeats rows of the log",),
    )
    return QUESTION.finding(evidence, order, owner, once)


QUESTION = Question(
    id="events_in_time_order",
    number="X2",
    title="Are each user's events in time order, and only that user's?",
    stages=("order", "split"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"prepare"}),
)
