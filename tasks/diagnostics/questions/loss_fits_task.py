"""G14. Is the training loss the declared one, over exactly the positions that have a target?

Reads: the loss training differentiates, on real padded batches and new weights in eval mode; an
independent float64 form of the declared loss on the same logits; both gradients.

Rule: equal values, on a few rows and on a whole batch; gradients in the same direction; the loss of
a batch with every row twice equals the loss of the batch (a mean, not a sum); a step reports the
loss it differentiated. All exact: padding counted as a target, double softmax, a flipped sign, a
wrong reduction, another loss than declared each break at least one.

Limits: float32 sums over some thousand terms differ by about 1e-6 relative; 1e-4 leaves two
orders. Directions: the cosine of two gradients that differ only by rounding is above 0.9999.

The same picture from elsewhere: logits in `logits` and in `loss` made by different code (then the
loss is not the loss of these scores, which is a fault too).

It can't tell: whether the declared loss is a good choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import loss_oracle, reported_loss
from tasks.diagnostics.measurements.loss_oracle import LossOracle
from tasks.diagnostics.measurements.reported_loss import ReportedLoss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "value": Limit(1e-4, "identity; float32 sums differ by about 1e-6"),
    "direction": Limit(0.999, "identity; equal losses have equal gradients"),
    "reported": Limit(1e-4, "identity; float32 rounding is 1e-6"),
    "duplicated": Limit(1e-4, "identity of a mean; float32 sums differ by about 1e-6"),
}

MODEL = ("stochastic", "state", "batch", "numeric", "cell")
"""Where a model gives other scores at every call, its loss is another one, too."""


@dataclass(frozen=True)
class Evidence:
    """The loss of a batch, and what a step says it was."""

    oracle: LossOracle
    reported: ReportedLoss | None
    unreported: str = ""


def measure(probe: Probe) -> Evidence:
    """Recompute the loss, and listen to a step."""
    oracle = probe.evidence(loss_oracle.measure)
    try:
        return Evidence(oracle, probe.evidence(reported_loss.measure))
    except (NotMeasuredError, NotOfferedError, SubjectError) as problem:
        return Evidence(oracle, None, str(problem))


def _worse(some_rows: float, whole_batch: float) -> float:
    """The larger difference; one that is no number is the worst."""
    return whole_batch if whole_batch != whole_batch else max(some_rows, whole_batch)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Compare value, gradient, reduction and report."""
    oracle, told = evidence.oracle, evidence.reported
    value = Check(
        name="relative difference between the program's loss and the declared loss",
        value=_worse(oracle.relative_difference, oracle.whole_difference),
        unit="of the declared loss",
        limit=limits["value"],
        stage="loss",
        rule="oracle",
        explained_by=MODEL,
        where=f"program {oracle.program:.4g}, declared {oracle.declared:.4g} nats",
        advice=(
            "compare the loss function with the declared one on two rows by hand "
            "(tasks/training/losses.py)",
            "check that padding is left out of the mean and logits go in without a softmax",
        ),
    )
    direction = Check(
        name="cosine between the gradient of the program's loss and of the declared loss",
        value=oracle.gradient_cosine,
        unit="",
        limit=limits["direction"],
        relation="at_least",
        stage="loss",
        rule="oracle",
        explained_by=MODEL,
        advice=("check the sign of the loss, and for a detach between logits and loss",),
    )
    duplicated = Check(
        name="relative change of the loss when every row stands in the batch twice",
        value=oracle.duplicated_difference,
        unit="of the declared loss",
        limit=limits["duplicated"],
        stage="loss",
        rule="exact",
        explained_by=MODEL,
        proof="a larger batch draws other negatives"
        if oracle.duplicated_difference is None
        else "",
        advice=("use a mean over valid positions instead of a sum",),
    )
    reported = Check(
        name="relative distance of what a step reports from the losses it was given",
        value=told.distance if told else None,
        unit="of the loss",
        limit=limits["reported"],
        stage="monitoring",
        rule="exact",
        missing=evidence.unreported,
        essential=False,
        explained_by=(*MODEL, "loss"),
        advice=("return the very loss that was differentiated, over the same positions",),
    )
    return QUESTION.finding(evidence, value, direction, duplicated, reported)


QUESTION = Question(
    id="loss_fits_task",
    number="G14",
    title="Is the training loss the declared one, over exactly the positions that have a target?",
    stages=("loss", "monitoring"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"loss", "criterion"}),
)
