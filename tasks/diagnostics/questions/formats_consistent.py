"""G3. Do types, shapes and ids keep their meaning from stage to stage?

Reads: prepared arrays, every training batch, the logits of one, and every window decoded back into
events of its user.

Rule: integers where ids are, ids within 0..num_items, equal shapes, bool masks, floating scores;
and the round trip: the items of a window are a run of its user's own events. Exact.

Limits: zero breaches.

The same picture from elsewhere: windows cut from another user's sequence decode to wrong events,
too (`inputs_match_targets`).

It can't tell: whether the sequences themselves are right (`events_in_time_order`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import batch_format, window_match
from tasks.diagnostics.measurements.batch_format import BatchFormat
from tasks.diagnostics.measurements.window_match import WindowMatch
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"count": Limit(0, "contract between stages: types, shapes and ranges")}


@dataclass(frozen=True)
class Evidence:
    """Breaches of the contract, and the round trip."""

    format: BatchFormat
    windows: WindowMatch


def measure(probe: Probe) -> Evidence:
    """Check types, shapes, ranges and the round trip."""
    return Evidence(
        format=probe.evidence(batch_format.measure),
        windows=probe.evidence(window_match.measure),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """No breach, no window that decodes to something else."""
    contract = exact(
        "number of breaches of types, shapes and id ranges between stages",
        evidence.format.violations,
        limits["count"],
        "format",
        f"look at {evidence.format.first_violation or 'the first batch'}",
        unit="breaches",
        where=evidence.format.first_violation,
        explained_by=("encode",),
    )
    round_trip = exact(
        "number of windows that do not decode to their user's own events",
        evidence.windows.foreign_rows,
        limits["count"],
        "format",
        "compare item_ids before and after every conversion (float, hash, cast) on one row",
        unit="windows",
        where=evidence.windows.first_foreign,
        explained_by=("pad",),
    )
    return QUESTION.finding(evidence, contract, round_trip)


QUESTION = Question(
    id="formats_consistent",
    number="G3",
    title="Do types, shapes and ids keep their meaning from stage to stage?",
    stages=("format",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"make_batches"}),
)
