"""G13. Are the model's outputs plain scores, one per item, that the loss can work with?

Reads: scores under usual weights and up to 100,000-fold ones; the program's loss on made-up logits.

Rule: a row of scores does not sum to 1 (that would be probabilities, to be softmaxed again); scores
do not pile up at bounds (sigmoid, tanh, clamp, ReLU) unless they are declared normalised; every
item's score follows the history, and an embedding row that scores an item is that item's; the
loss's gradient by the logits is that of the declared loss, whose rows of a softmax sum to zero and
whose target entry is p - 1. Exact.

Limits: a row of 50 free scores sums to 1 within 1e-3 with probability below 1e-3 and never for all
rows at once. A linear score takes any one value once per batch; 0.4 of all scores at two values
needs a bound. Gradients agree to float32 rounding, 1e-6; 1e-3 leaves three orders.

The same picture from elsewhere: a wrong loss changes the gradient, too; then the value differs as
well (`loss_fits_task`) and the loss is to blame.

It can't tell: whether the scores are any good.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import logit_identities, own_rows, score_range
from tasks.diagnostics.measurements.logit_identities import LogitIdentities
from tasks.diagnostics.measurements.own_rows import OwnRows
from tasks.diagnostics.measurements.score_range import ScoreRange
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "shares": Limit(1e-3, "free scores never all sum to 1"),
    "bounds": Limit(0.4, "a linear score takes any one value about once"),
    "constant": Limit(0, "identity: an item's score depends on the history"),
    "gradient": Limit(1e-3, "identity; float32 rounding is 1e-6"),
    "rows": Limit(0, "identity: a row that scores an item is that item's"),
}


@dataclass(frozen=True)
class Evidence:
    """Range of scores, and identities of the loss."""

    range: ScoreRange
    identities: LogitIdentities | None
    no_identities: str
    is_normalized: bool = quantity("scores are declared to be normalised")
    rows: OwnRows | None = None
    no_rows: str = ""


def measure(probe: Probe) -> Evidence:
    """Look at scores and differentiate the loss by them."""
    found, reason = None, ""
    try:
        found = probe.evidence(logit_identities.measure)
    except (NotOfferedError, NotApplicableError) as error:
        reason = str(error)
    rows, no_rows = None, ""
    try:
        rows = probe.evidence(own_rows.measure)
    except (NotApplicableError, NotMeasuredError) as error:
        no_rows = str(error)
    return Evidence(
        range=probe.evidence(score_range.measure),
        identities=found,
        no_identities=reason,
        is_normalized=probe.subject.declared.normalized_scores,
        rows=rows,
        no_rows=no_rows,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Free scores, and a gradient the task asks for."""
    shares = exact(
        "largest distance of a row of scores from summing to 1",
        evidence.range.distance_from_shares,
        limits["shares"],
        "output",
        "return logits: leave softmax to the loss",
        relation="at_least",
    )
    bounds = exact(
        "share of scores at one or two single values under much larger weights",
        evidence.range.at_bounds,
        limits["bounds"],
        "output",
        "remove the sigmoid, tanh, ReLU or clamp after the last linear layer",
        proof="normalised scores are declared" if evidence.is_normalized else "",
        explained_by=("core", "embedding", "activation", "cell", "numeric"),
    )
    identities = evidence.identities
    gradient = exact(
        "relative error of the loss's gradient by the logits",
        None if identities is None else identities.gradient,
        limits["gradient"],
        "loss",
        "compare dL/dlogits with softmax - one-hot (or the declared loss's own) on one row",
        missing=evidence.no_identities,
        essential=False,
    )
    rows = exact(
        "number of items whose embedding row scores another item",
        None if evidence.rows is None else evidence.rows.foreign,
        limits["rows"],
        "output",
        "score item i by row i: check offsets between table, head and padding column",
        unit="items",
        where="" if evidence.rows is None else evidence.rows.first_foreign,
        missing=evidence.no_rows,
        essential=False,
        explained_by=("embedding", "encode"),
    )
    constant = exact(
        "number of items whose score is the same after every history",
        evidence.range.constant_items,
        limits["constant"],
        "output",
        "look for masks, fills and rows of zeros between the hidden state and the scores",
        unit="items",
        proof="" if _some(evidence.range) else "most items alike: not the output's own doing",
    )
    return QUESTION.finding(evidence, shares, bounds, gradient, rows, constant)


def _some(scores: ScoreRange) -> bool:
    """Most items' scores follow the history; where they do not, what comes before is at fault.

    A bias for items of the history moves some scores even then.
    """
    return scores.constant_items <= scores.num_items / 2


QUESTION = Question(
    id="output_fits_task",
    number="G13",
    title="Are the model's outputs plain scores, one per item, that the loss can work with?",
    stages=("output", "loss"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"criterion"}),
)
