"""G17. Can the optimiser's steps move the weights, without throwing them away?

Reads: three optimiser steps of the program, and the number of steps the declared budget holds.

Rule: one step changes the weights by less than their own norm, and the whole budget of steps can
change them by at least a hundredth of it, by a tenth where the optimiser's epsilon outweighs most
of its gradients; the rate is no higher than declared, and not spent in a quarter of the budget. In
the deep mode, where a training has no skill and one at another rate has (same steps, two seeds),
the rate is the cause. Everything between is for validation to choose: loss curves over learning
rates alone give no verdict, since a short horizon favours large rates.

Limits: a step as large as the weights forgets the initial values at once (norm ratio 1). If all
steps in one direction can't move the weights by 1 %, training ends where it began. An adaptive
optimiser whose epsilon outweighs its gradients takes steps that fade with them, so that ten times
the reach is asked for. After a quarter of the budget a linear schedule has 75 % of its rate left
and a cosine 85 %.

The same picture from elsewhere: no gradient, or an optimiser without parameters, moves nothing
(`gradients_flow`); gradients clipped to almost nothing move little under SGD (`clipping_works`).

It can't tell: which of the possible learning rates is best.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import step_trace, step_use
from tasks.diagnostics.measurements.cure_checks import (
    CURE_LIMIT,
    Remedies,
    cure_check,
    look_for_cures,
)
from tasks.diagnostics.measurements.step_use import StepUse
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "step": Limit(1.0, "a step as large as the weights forgets what they were"),
    "reach": Limit(0.01, "all steps of the budget in one direction move the weights by 1 %"),
    "damped": Limit(0.1, "steps that fade with their gradients have to reach further"),
    "declared": Limit(1.01, "identity: the declared rate is the highest one"),
    "left": Limit(0.2, "a quarter into the budget, a linear schedule has 0.75 of its rate left"),
    "cured": CURE_LIMIT,
}

MOSTLY = 0.9
"""Share of gradient entries below the epsilon from which the epsilon sets the steps."""


@dataclass(frozen=True)
class Evidence:
    """Size of steps, and how many there are."""

    update_ratio: float = quantity("norm of one step's change over the norm of the weights")
    steps_in_budget: int = quantity("optimiser steps")
    remedies: Remedies = field(default_factory=Remedies)
    use: StepUse | None = None
    declared_rate: float | None = quantity("declared peak learning rate", default=None)


def measure(probe: Probe) -> Evidence:
    """Take the measured step and the budget."""
    steps = probe.evidence(step_trace.measure)
    declared = probe.subject.declared
    try:
        use = probe.evidence(step_use.measure)
    except NotMeasuredError:
        use = None
    per_epoch = -(-len(probe.all_batches) // max(declared.accumulate_steps, 1))
    return Evidence(
        update_ratio=steps.update_ratio,
        steps_in_budget=per_epoch * declared.max_epochs,
        remedies=look_for_cures(probe),
        use=use,
        declared_rate=declared.learning_rate if declared.states("learning_rate") else None,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Neither explosive nor without effect."""
    large = exact(
        "change of the weights by one optimiser step over their norm",
        evidence.update_ratio,
        limits["step"],
        "learning_rate",
        "lower train.<model>.learning_rate by a factor of 10",
        explained_by=("loss",),
    )
    small = exact(
        "change of the weights that the whole budget can reach over their norm",
        evidence.update_ratio * evidence.steps_in_budget,
        limits["reach"],
        "learning_rate",
        "raise train.<model>.learning_rate, or use AdamW instead of SGD at this rate",
        relation="at_least",
        explained_by=("gradient_flow", "optimiser", "clipping", "loss"),
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
    return QUESTION.finding(evidence, large, small, *_rates(evidence, limits), other)


def _rates(evidence: Evidence, limits: Limits) -> list[Check]:
    use, declared = evidence.use, evidence.declared_rate
    missing = "optimiser steps with a finite gradient"
    is_damped = use is not None and use.below_epsilon > MOSTLY
    return [
        exact(
            "reach of the whole budget where the optimiser's epsilon outweighs its gradients",
            evidence.update_ratio * evidence.steps_in_budget,
            limits["damped"],
            "learning_rate",
            "lower the optimiser's epsilon (1e-8 is usual), or raise the learning rate",
            relation="at_least",
            proof="" if is_damped else "gradients outweigh the optimiser's epsilon",
            explained_by=("gradient_flow", "clipping", "loss", "core"),
        ),
        exact(
            "highest learning rate of the first steps over the declared one",
            None if use is None or not declared else use.highest_rate / declared,
            limits["declared"],
            "learning_rate",
            "hand train.<model>.learning_rate to the optimiser, and check what changes it per step",
            missing=missing,
            essential=False,
            proof="" if declared else "no learning rate is declared",
        ),
        exact(
            "share of the learning rate that is left after these steps",
            None if use is None else use.rate_left,
            limits["left"],
            "learning_rate",
            "step a schedule that counts epochs once per epoch, one that counts steps per batch",
            where="" if use is None else f"step {use.num_steps}",
            relation="at_least",
            missing=missing,
            essential=False,
        ),
    ]


QUESTION = Question(
    id="learning_rate_suits",
    number="G17",
    title="Can the optimiser's steps move the weights, without throwing them away?",
    stages=("learning_rate",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
