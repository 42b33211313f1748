"""G18. Do batches hold the events they should, and enough of them for stable steps?

Reads: the windows of an epoch beside the training sequences; the declared longest window.

Rule: no window is longer than declared, and an epoch leaves out no more than 2 % of the pairs that
a window of that length could hold. Exact counts.

Limits: 2 %: dropping the last incomplete batch of an epoch loses up to a batch of rows, which is
below that in all but tiny data sets; there the limit is one batch.

The same picture from elsewhere: windows that decode to nothing can't be counted as covered
(`formats_consistent`).

It can't tell: whether the batch size is a good one: the gradient noise scale is a model of SGD,
not a fact, and is reported by `batch_stabilises_training`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import window_lengths
from tasks.diagnostics.measurements.window_lengths import WindowLengths
from tasks.diagnostics.probe import MAX_BATCHES, Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "lost": Limit(0.02, "an incomplete last batch may be dropped"),
    "too_long": Limit(0, "declared longest window"),
}


@dataclass(frozen=True)
class Evidence:
    """Window lengths, and how many batches make an epoch."""

    windows: WindowLengths
    num_batches: int = quantity("batches of an epoch")


def measure(probe: Probe) -> Evidence:
    """Count what windows hold."""
    return Evidence(
        windows=probe.evidence(window_lengths.measure), num_batches=len(probe.all_batches)
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Nothing lost, nothing longer than declared."""
    windows = evidence.windows
    room = max(limits["lost"].value, 1.0 / evidence.num_batches if evidence.num_batches > 1 else 0)
    lost = exact(
        "share of training pairs that an epoch leaves out",
        windows.lost_share,
        Limit(room, limits["lost"].source),
        "pad",
        "compare windows with train.shared.max_seq_len: are they cut shorter, or events skipped?",
        where=f"longest window {windows.longest}, declared {windows.declared_longest}",
        missing=f"an epoch of fewer than {MAX_BATCHES} batches",
        essential=False,
        explained_by=("format", "order", "align", "encode"),
    )
    longer = exact(
        "inputs of the longest window beyond the declared length",
        max(0, windows.longest - windows.declared_longest),
        limits["too_long"],
        "batching",
        "cut histories to train.shared.max_seq_len",
        unit="events",
    )
    return QUESTION.finding(evidence, lost, longer)


QUESTION = Question(
    id="batch_and_length_suit",
    number="G18",
    title="Do batches hold the events they should, and enough of them for stable steps?",
    stages=("pad", "batching"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
