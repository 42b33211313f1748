"""X9. Does every event keep its place from the sequence to the score?

Reads: windows beside the sequences they come from; shapes of scores for batches down to one row
and one position; histories at scoring beside the split.

Rule: every event of the log is in a sequence but for declared filters; an epoch holds the pairs
that the declared length allows; scores have one position per input,
one event alone is scored, and histories at scoring hold the user's last events up to the declared
length. Exact counts.

Limits: 2 % of the pairs (a dropped incomplete last batch), or one batch in tiny data sets; zero for
shapes and histories.

The same picture from elsewhere: windows that decode to nothing; a target inside the history
(`preprocessing_same_everywhere`).

It can't tell: whether a filter that is declared to count training events alone does so
(`preprocessing_same_everywhere`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import (
    dims_sweep,
    inference_oracle,
    log_coverage,
    window_lengths,
)
from tasks.diagnostics.measurements.dims_sweep import DimsSweep
from tasks.diagnostics.measurements.epoch_coverage import one_batch
from tasks.diagnostics.measurements.inference_oracle import InferenceOracle
from tasks.diagnostics.measurements.log_coverage import LogCoverage
from tasks.diagnostics.measurements.window_lengths import WindowLengths
from tasks.diagnostics.probe import MAX_BATCHES, Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "lost": Limit(0.02, "an incomplete last batch may be dropped"),
    "count": Limit(0, "identity: one score per event, one event per place"),
}


@dataclass(frozen=True)
class Evidence:
    """Lengths before, within and at the end."""

    windows: WindowLengths
    shapes: DimsSweep
    histories: InferenceOracle | None
    coverage: LogCoverage | None
    no_coverage: str
    num_batches: int = quantity("batches of an epoch")


def measure(probe: Probe) -> Evidence:
    """Count pairs, try shapes, compare histories."""
    try:
        histories = probe.evidence(inference_oracle.measure)
    except NotOfferedError:
        histories = None
    coverage, reason = None, ""
    try:
        coverage = probe.evidence(log_coverage.measure)
    except (NotOfferedError, NotApplicableError, NotMeasuredError) as error:
        reason = str(error)
    return Evidence(
        windows=probe.evidence(window_lengths.measure),
        shapes=probe.evidence(dims_sweep.measure),
        histories=histories,
        coverage=coverage,
        no_coverage=reason,
        num_batches=len(probe.all_batches),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Nothing lost on the way."""
    epoch = evidence.windows.coverage
    lost = exact(
        "share of training pairs that an epoch leaves out",
        evidence.windows.lost_share,
        one_batch(limits["lost"], evidence.num_batches, bool(epoch and epoch.batch_dropped)),
        "pad",
        "compare the longest window with train.shared.max_seq_len",
        where=f"longest window {evidence.windows.longest}, "
        f"declared {evidence.windows.declared_longest}",
        missing=f"an epoch of fewer than {MAX_BATCHES} batches",
        essential=False,
        explained_by=("format", "order", "align", "encode"),
    )
    shapes = exact(
        "number of batch shapes or sizes without one score per event",
        evidence.shapes.failures,
        limits["count"],
        "dims",
        "return scores for every position, also for a single event",
        unit="shapes",
        where=evidence.shapes.first_failure,
        explained_by=("numeric",),
    )
    histories = evidence.histories
    other = exact(
        "number of histories at scoring that are not those the split gives",
        None if histories is None else histories.wrong_histories,
        limits["count"],
        "split" if histories is not None and histories.knows_targets else "inference",
        "hand the last train.shared.max_seq_len events before the target to the model",
        unit="histories",
        where="" if histories is None else histories.first_wrong,
        missing="`make_histories` and `score`",
        essential=False,
        explained_by=("encode", "pad"),
    )
    coverage = evidence.coverage
    missing = exact(
        "number of events of the log that are in no sequence, without a declared filter",
        None if coverage is None else coverage.lost_events,
        limits["count"],
        "split",
        "count events after every step of the preparation and compare with its declared filters",
        unit="events",
        where="" if coverage is None else coverage.first_lost,
        missing=evidence.no_coverage,
        essential=False,
        explained_by=("time", "encode", "order"),
    )
    return QUESTION.finding(evidence, lost, shapes, other, missing)


QUESTION = Question(
    id="length_preserved",
    number="X9",
    title="Does every event keep its place from the sequence to the score?",
    stages=("pad", "dims", "inference", "split"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
