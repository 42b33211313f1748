"""X5. Does a history score the same whatever it is batched and padded with?

Reads: rows of mixed lengths scored together and one by one without padding; the side padding
stands on in training batches and in histories at scoring; the declared side.

Rule: together or alone, with any padding, a row's scores are the same; training and scoring pad on
the declared side. Exact.

Limits: float32 rounding, below 1e-6 of the spread of scores; 1e-4 leaves two orders.

The same picture from elsewhere: influence between rows, of the future, or randomness.

It can't tell: whether padding enters the loss (`padding_handled`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import inference_oracle, padding_swap
from tasks.diagnostics.measurements.padding_swap import PaddingSwap
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "scores": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "side": Limit(0, "declared side of padding"),
}

SAME = 1e-3
"""Difference of scores, in standard deviations, up to which scoring agrees with plain inference."""


@dataclass(frozen=True)
class Evidence:
    """Scores under other padding, and sides."""

    swap: PaddingSwap
    declared_side: str = quantity("declared side of padding")
    scoring_side: str = quantity("side padding stands on in histories at scoring")
    scoring_error: float = quantity("difference of scoring from plain inference, in deviations")


def measure(probe: Probe) -> Evidence:
    """Score rows together and alone; look where padding stands."""
    side, error = "none", 0.0
    try:
        scoring = probe.evidence(inference_oracle.measure)
        side, error = scoring.history_side, scoring.largest_difference
    except NotOfferedError:
        pass
    return Evidence(
        swap=probe.evidence(padding_swap.measure),
        declared_side=probe.subject.declared.padding_side,
        scoring_side=side,
        scoring_error=error,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Equal scores, one side."""
    mixed = ("causal", "batch", "stochastic", "state")
    unit = "standard deviations of the logits"
    alone = exact(
        "largest difference between a row scored in a batch and alone",
        evidence.swap.by_batching,
        limits["scores"],
        "pad",
        "hand mask or lengths to everything that mixes positions",
        unit=unit,
        explained_by=mixed,
    )
    more = exact(
        "largest change of a real score by more padding",
        evidence.swap.by_more_padding,
        limits["scores"],
        "pad",
        "mask padded positions before anything that mixes positions",
        unit=unit,
        explained_by=mixed,
    )
    return QUESTION.finding(
        evidence,
        alone,
        more,
        _side("training batches", evidence.swap.training_sides, evidence.declared_side, limits),
        _side(
            "histories at scoring",
            evidence.scoring_side,
            evidence.declared_side,
            limits,
            # Another side that scores the same is odd, and does no harm.
            breach="faulty" if evidence.scoring_error > SAME else "suspect",
        ),
    )


def _side(where: str, found: str, declared: str, limits: Limits, **more: object) -> Check:
    return exact(
        f"{where} padded on another side than declared",
        int(found not in (declared, "none")),
        limits["side"],
        "pad",
        f"pad {where} on the {declared}",
        where=f"padding stands {found}",
        **more,
    )


QUESTION = Question(
    id="variable_lengths_consistent",
    number="X5",
    title="Does a history score the same whatever it is batched and padded with?",
    stages=("pad",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
