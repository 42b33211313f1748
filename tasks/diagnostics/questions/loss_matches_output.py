"""X16. Is the loss a right function of the scores it is given?

Reads: the program's loss on made-up logits of a real batch, and its gradient by them; the same of
an independent float64 form of the declared loss.

Rule: the identities of the declared loss hold: its gradient by the logits; its value at equal
logits (ln V for the full cross-entropy, ln 2 per pair or item for BPR and BCE) and at perfect ones;
no change when all logits rise together, where the loss is a softmax or a difference; nothing from
positions without a target, and from every item alike where it is the target. Exact.

Limits: float32 rounding, 1e-6 relative; 1e-3 leaves three orders.

The same picture from elsewhere: none: logits are made up, so the model has no part in it.

It can't tell: whether the loss that training calls is this function of the model's scores
(`loss_fits_task`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import logit_identities
from tasks.diagnostics.measurements.logit_identities import LogitIdentities
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"error": Limit(1e-3, "identity; float32 rounding is 1e-6")}


def measure(probe: Probe) -> LogitIdentities:
    """Try the identities."""
    return probe.evidence(logit_identities.measure)


def judge(evidence: LogitIdentities, limits: Limits) -> Finding:
    """All identities hold."""

    def identity(name: str, value: float | None, advice: str, **more: object) -> Check:
        return exact(name, value, limits["error"], "loss", advice, unit="nats", **more)

    return QUESTION.finding(
        evidence,
        identity(
            "relative error of the loss's gradient by the logits",
            evidence.gradient,
            "compare dL/dlogits with the declared loss's own on one row",
        ),
        identity(
            "difference of the loss from its known value at equal logits",
            evidence.at_zero,
            "check the number of terms in the mean, and that logits go in without a softmax",
        ),
        identity(
            "difference of the loss from its known value at perfect logits",
            evidence.perfect,
            "check for a second softmax, a sigmoid, or padding counted as a target",
        ),
        identity(
            "change of the loss when all logits rise by 3",
            evidence.shift,
            "remove what bounds or normalises logits before the loss",
            proof="" if evidence.shift is not None else f"{evidence.loss_name} is not invariant",
        ),
        identity(
            "largest relative error of the gradient where one of all items is the target",
            evidence.by_item,
            "look for an item that is left out or weighted, such as by ignore_index",
            proof="" if evidence.by_item is not None else "the loss draws negatives",
        ),
        identity(
            "share of the gradient at positions without a target",
            evidence.unasked,
            "leave positions without a target out of the loss",
        ),
    )


QUESTION = Question(
    id="loss_matches_output",
    number="X16",
    title="Is the loss a right function of the scores it is given?",
    stages=("loss",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"criterion"}),
)
