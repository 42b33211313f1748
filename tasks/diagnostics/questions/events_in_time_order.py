"""X2. Are each user's events in time order, and only that user's?

Reads: prepared training sequences joined with the raw log by row number.

Rule: within a sequence the raw times never go backwards, every event has the user and the item of
its row, no event is used twice and none is lost but by a declared filter. Exact. A raw item that is
always encoded as another one is a wrong map (`ids_unique`); one that stands behind several ids has
been shuffled, and is judged here.

Limits: zero. Events with equal times may stand in any order, and an item may come back: neither is
a fault. Rows, not (user, item, time), identify an event.

The same picture from elsewhere: a time column shifted against its rows before sorting also leaves
sequences out of order; then the times disagree with the log (`timestamps_aligned`), which is the
cause.

It can't tell: whether the log itself has wrong times.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import log_coverage, log_join
from tasks.diagnostics.measurements.log_coverage import LogCoverage
from tasks.diagnostics.measurements.log_join import LogJoin
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import Limits, Question

LIMITS = {"events": Limit(0, "identity: every event is a row of the log")}


@dataclass(frozen=True)
class Evidence:
    """Training events and their rows of the log."""

    join: LogJoin
    coverage: LogCoverage | None
    no_coverage: str


def measure(probe: Probe) -> Evidence:
    """Join training events with the log."""
    coverage, reason = None, ""
    try:
        coverage = probe.evidence(log_coverage.measure)
    except NotApplicableError as error:
        reason = str(error)
    return Evidence(probe.evidence(log_join.measure), coverage, reason)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """No event out of order, of another user or item, used twice, or lost."""
    return QUESTION.finding(
        evidence, *_places(evidence.join, limits), lost_check(evidence, limits["events"])
    )


def lost_check(evidence: Evidence, limit: Limit) -> Check:
    """Compare the number of lost events with none."""
    coverage = evidence.coverage
    return exact(
        "number of events of the log that are in no sequence, without a declared filter",
        None if coverage is None else coverage.lost_events,
        limit,
        "split",
        "count events after every step of the preparation and compare with its declared filters",
        unit="events",
        where="" if coverage is None else coverage.first_lost,
        proof=evidence.no_coverage,
        explained_by=("time", "encode"),
    )


def _places(evidence: LogJoin, limits: Limits) -> list[Check]:
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
    item = exact(
        "number of events that carry the item of another row",
        evidence.wrong_item if evidence.scattered_items else 0,
        limits["events"],
        "order",
        "check that users, items and times are permuted together, never one column alone",
        unit="events",
        where=evidence.first_wrong_item,
    )
    return [order, owner, item, once]


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
