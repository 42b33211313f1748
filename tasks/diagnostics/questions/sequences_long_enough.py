"""X6. Is there something to learn from in every row that reaches the model?

Reads: real events and targets per row of the training batches; lengths of the training sequences.

Rule: no row is all padding and none is without a target. Rows of one pair are legitimate in a small
catalogue; they are suspect where they are more than a quarter of all rows and more frequent than
short sequences are among the training sequences of the log.

Limits: zero for empty rows. A quarter: rows of one pair carry no order, so above that a sequence
model trains on what a transition count could use as well.

The same picture from elsewhere: windows cut too short (`batch_and_length_suit`).

It can't tell: whether users were dropped before (the manifest of the preparation counts them).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import window_lengths
from tasks.diagnostics.measurements.window_lengths import WindowLengths
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "empty": Limit(0, "identity: a row without events teaches nothing"),
    "short": Limit(0.25, "rows of one pair carry no order"),
}


@dataclass(frozen=True)
class Evidence:
    """Lengths of rows."""

    windows: WindowLengths
    min_user_events: int = quantity("declared fewest events of a user")


def measure(probe: Probe) -> Evidence:
    """Count real events."""
    return Evidence(
        windows=probe.evidence(window_lengths.measure),
        min_user_events=probe.subject.declared.min_user_events,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """No empty row; short rows are told."""
    windows = evidence.windows
    empty = exact(
        "number of rows without a real event or without a target",
        windows.empty_rows + windows.unasked_rows,
        limits["empty"],
        "pad",
        "leave out users with fewer than two training events before batches are made",
        unit="rows",
    )
    short = Check(
        name="share of rows with fewer than three events",
        value=windows.short_share,
        unit="of rows",
        limit=limits["short"],
        stage="distribution",
        rule="descriptive",
        breach="suspect",
        advice=("raise data.min_user_events, or compare with the transitions baseline",),
    )
    return QUESTION.finding(evidence, empty, short)


QUESTION = Question(
    id="sequences_long_enough",
    number="X6",
    title="Is there something to learn from in every row that reaches the model?",
    stages=("pad", "distribution"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
