"""X14. Is the learning rate right for every block, deep ones and shallow ones alike?

Reads: the change of each block's weights by one optimiser step, and the number of steps the
declared budget holds.

Rule: no step changes a block by more than the block itself, and the whole budget can change every
block by at least a hundredth. As in `learning_rate_suits`, but block by block: one rate can be too
large for one block and without effect on another. In the deep mode, where a training has no skill
and one at another rate has (same steps, two seeds), the rate is the cause.

Limits: a step as large as the weights forgets what they were; if all steps in one direction can't
move a block by 1 %, it stays where it began.

The same picture from elsewhere: blocks without gradient (`gradients_flow`), gradients clipped to
almost nothing (`clipping_works`).

It can't tell: which of the possible rates is best.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import update_by_block
from tasks.diagnostics.measurements.cure_checks import (
    CURE_LIMIT,
    Remedies,
    cure_check,
    look_for_cures,
)
from tasks.diagnostics.measurements.update_by_block import UpdateByBlock
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

FAINT = "every first gradient is below the optimiser's epsilon, whatever the rate"

LIMITS = {
    "step": Limit(1.0, "a step as large as the weights forgets what they were"),
    "reach": Limit(0.01, "all steps of the budget in one direction move the block by 1 %"),
    "cured": CURE_LIMIT,
}


@dataclass(frozen=True)
class Evidence:
    """Steps per block, and how many there are."""

    updates: UpdateByBlock
    steps_in_budget: int = quantity("optimiser steps")
    remedies: Remedies = field(default_factory=Remedies)


def measure(probe: Probe) -> Evidence:
    """Take the measured steps and the budget."""
    declared = probe.subject.declared
    per_epoch = -(-len(probe.all_batches) // max(declared.accumulate_steps, 1))
    return Evidence(
        updates=probe.evidence(update_by_block.measure),
        steps_in_budget=per_epoch * declared.max_epochs,
        remedies=look_for_cures(probe),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """No block thrown away, none left behind."""
    updates = evidence.updates
    large = exact(
        "largest change of a block by one optimiser step over its weights",
        updates.largest,
        limits["step"],
        "learning_rate",
        "lower train.<model>.learning_rate by a factor of 10",
        where=updates.largest_block,
        explained_by=("loss",),
    )
    small = exact(
        "smallest change of a block that the whole budget can reach over its weights",
        None if updates.smallest is None else updates.smallest * evidence.steps_in_budget,
        limits["reach"],
        "learning_rate",
        "raise train.<model>.learning_rate, or use AdamW instead of SGD at this rate",
        where=updates.smallest_block,
        relation="at_least",
        explained_by=("gradient_flow", "optimiser", "clipping", "loss", "core"),
        proof=FAINT if updates.smallest is None else "",
    )
    rate = evidence.remedies.cures.best_rate if evidence.remedies.cures else None
    other = cure_check(
        evidence.remedies,
        "other_rate",
        "at another learning rate",
        limits["cured"],
        "learning_rate",
        f"try {rate or 10:g} times train.<model>.learning_rate",
        explained_by=("batching",),
    )
    return QUESTION.finding(evidence, large, small, other)


QUESTION = Question(
    id="learning_rate_suits_depth",
    number="X14",
    title="Is the learning rate right for every block, deep ones and shallow ones alike?",
    stages=("learning_rate",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
