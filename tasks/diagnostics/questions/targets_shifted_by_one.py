"""X3. Is each target the very next event after its input?

Reads: every training window beside the sequence it was cut from.

Rule: the target of each position is the event right after it in the user's sequence; none lies
beyond the end of training. Exact.

Limits: zero. A user who takes an item twice in a row has a target equal to its input, rightly:
targets are compared with the log, not with "differs from the input".

The same picture from elsewhere: ids spoiled by a conversion (`formats_consistent`).

It can't tell: whether the position that is scored at evaluation is the last one
(`head_reads_right_state`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import window_match
from tasks.diagnostics.measurements.window_match import WindowMatch
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"targets": Limit(0, "identity: next event of the same user")}


def measure(probe: Probe) -> WindowMatch:
    """Look every window up."""
    return probe.evidence(window_match.measure)


def judge(evidence: WindowMatch, limits: Limits) -> Finding:
    """Every target is the next event."""
    same = evidence.targets_equal_input / max(evidence.num_targets, 1)
    hint = "shift targets by one: targets = items[1:], inputs = items[:-1]"
    if evidence.wrong_targets and same > 0.9:
        hint = f"{same:.0%} of targets equal their input: {hint}"
    wrong = exact(
        "number of targets that are not the next event",
        evidence.wrong_targets,
        limits["targets"],
        "align",
        hint,
        unit="targets",
        where=evidence.first_wrong,
        explained_by=("format", "split"),
    )
    beyond = exact(
        "number of targets beyond the end of the training sequence",
        evidence.targets_beyond_training,
        limits["targets"],
        "align",
        "end windows one event before the last training event",
        unit="targets",
        explained_by=("format", "split"),
    )
    return QUESTION.finding(evidence, wrong, beyond)


QUESTION = Question(
    id="targets_shifted_by_one",
    number="X3",
    title="Is each target the very next event after its input?",
    stages=("align",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
