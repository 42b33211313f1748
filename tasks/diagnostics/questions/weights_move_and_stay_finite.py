"""G22. Are weights and scores finite, also under stress, and do they move?

Reads: scores, loss and gradients in training mode under usual and under three-fold weights; three
optimiser steps; the share of the scores' variance that lies between users.

Rule: nothing is NaN or infinite; weights move in three steps; scores depend on the user.

Limits: zero non-finite values. Three-fold matrices: the published mLSTM bound, written out in
float32, stays finite there and fails at 5 (measured), so a failure at 3 is the program's own.
Scores whose variance between users is below 1e-3 of the whole are the same for everybody.

The same picture from elsewhere: weights that do not move for want of a gradient or an optimiser
(`gradients_flow`).

It can't tell: failures rarer than the few passes it makes; the training loop stops at those.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import finite_stress, score_variety, step_trace
from tasks.diagnostics.measurements.finite_stress import FiniteStress
from tasks.diagnostics.measurements.score_variety import ScoreVariety
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "count": Limit(0, "a NaN or infinity spreads to everything after it"),
    "moved": Limit(1, "training changes weights"),
    "users": Limit(1e-3, "scores that are the same for everybody are no recommendations"),
}


@dataclass(frozen=True)
class Evidence:
    """Finite values, movement and variety."""

    stress: FiniteStress
    variety: ScoreVariety | None
    moved_matrices: int | None = quantity("weight matrices that moved in three steps")
    broken_after_steps: int | None = quantity("parameters that are not finite after three steps")


def measure(probe: Probe) -> Evidence:
    """Stress the model, make three steps, compare users."""
    variety = steps = None
    stress = probe.evidence(finite_stress.measure)
    try:
        variety = probe.evidence(score_variety.measure)
        steps = probe.evidence(step_trace.measure)
    except (NotMeasuredError, NotOfferedError):
        # Non-finite scores leave nothing to compare; the count above says so itself.
        pass
    return Evidence(
        stress=stress,
        variety=variety,
        moved_matrices=None if steps is None else steps.moved_matrices,
        broken_after_steps=None if steps is None else steps.non_finite,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Finite, moving, different."""
    stress = evidence.stress
    usual = exact(
        "number of scores, losses or gradients that are not finite",
        stress.scores + stress.gradients + (evidence.broken_after_steps or 0),
        limits["count"],
        "numeric",
        "run forward under torch.autograd.set_detect_anomaly(True)",
        unit="values",
        where=stress.where,
        explained_by=("cell",),
    )
    stressed = exact(
        "number of values that are not finite under three-fold weights",
        stress.stressed_scores + stress.stressed_gradients,
        limits["count"],
        "numeric",
        "subtract a running maximum before every exp (stabiliser m of the cells)",
        unit="values",
        where=stress.where,
        explained_by=("cell",),
    )
    moved = exact(
        "number of weight matrices that move in three steps",
        evidence.moved_matrices,
        limits["moved"],
        "optimiser",
        "call loss.backward() and optimizer.step() in every step",
        unit="matrices",
        relation="at_least",
        missing="optimiser steps to watch",
        essential=False,
        explained_by=("loss", "gradient_flow", "numeric"),
    )
    users = exact(
        "share of the scores' variance that lies between users",
        None if evidence.variety is None else evidence.variety.over_users,
        limits["users"],
        "core",
        "follow one history through embedding, core and head: where does it become constant?",
        relation="at_least",
        missing="finite scores of two users",
        essential=False,
        explained_by=("embedding", "cell", "numeric"),
    )
    return QUESTION.finding(evidence, usual, stressed, moved, users)


QUESTION = Question(
    id="weights_move_and_stay_finite",
    number="G22",
    title="Are weights and scores finite, also under stress, and do they move?",
    stages=("numeric", "optimiser", "core"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
