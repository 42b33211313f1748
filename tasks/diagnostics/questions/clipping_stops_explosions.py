"""X15. Is the model safe from exploding values: stabilised cells, and clipping that works?

Reads: scores and gradients with the gates of every mLSTM and sLSTM cell driven to +-100 (input
gates of the mLSTM down to -25), in cells of unknown classes any two parts of one width; under
three-fold weights; the gradient norm the optimiser gets while the raw one is far above the limit;
the records of a finished training.

Rule: everything stays finite; declared clipping brings the norm down to its limit. Exact.

Limits: float32 can't exponentiate 100, so only a stabilised cell survives; 2 % for the clipped
norm.

The same picture from elsewhere: a division by zero that needs no large value
(`weights_move_and_stay_finite`).

It can't tell: whether the limit is well chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import (
    clipping,
    driven_cells,
    extreme_gates,
    finite_stress,
)
from tasks.diagnostics.measurements.clipping import Clipping
from tasks.diagnostics.measurements.driven_cells import DrivenCells
from tasks.diagnostics.measurements.extreme_gates import ExtremeGates
from tasks.diagnostics.measurements.finite_stress import FiniteStress
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "finite": Limit(0, "a NaN or infinity spreads to everything after it"),
    "norm": Limit(1.02, "declared norm; mixed precision loses three digits"),
}


@dataclass(frozen=True)
class Evidence:
    """Extremes and clipping."""

    stress: FiniteStress
    gates: ExtremeGates | None
    no_gates: str
    clipping: Clipping | None
    no_clipping: str
    is_stated: bool = quantity("the program says whether it clips")
    bad_epochs: int | None = quantity("epochs of the finished training with a loss not finite")
    driven: DrivenCells | None = None
    not_driven: str = ""


def measure(probe: Probe) -> Evidence:
    """Drive gates, grow weights, compare norms."""
    gates = clipped = None
    no_gates = no_clipping = ""
    try:
        gates = probe.evidence(extreme_gates.measure)
    except NotApplicableError as error:
        no_gates = str(error)
    driven, not_driven = None, "gates of known cells are driven themselves"
    if gates is None:
        try:
            driven = probe.evidence(driven_cells.measure)
        except NotApplicableError as error:
            not_driven = str(error)
    try:
        clipped = probe.evidence(clipping.measure)
    except NotMeasuredError as error:
        no_clipping = str(error)
    trained = probe.subject.trained
    bad = None
    if trained is not None:
        losses = [row.get("train/loss", 0.0) for row in trained.epochs]
        bad = sum(not abs(loss) < float("inf") for loss in losses)
    return Evidence(
        stress=probe.evidence(finite_stress.measure),
        gates=gates,
        no_gates=no_gates,
        clipping=clipped,
        no_clipping=no_clipping,
        is_stated=probe.subject.declared.states("max_grad_norm"),
        bad_epochs=bad,
        driven=driven,
        not_driven="" if driven is not None else not_driven,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Finite under all extremes, clipped as declared."""
    gates, stress = evidence.gates, evidence.stress
    extreme = exact(
        "number of scores and gradients not finite with gates at +-100",
        None if gates is None else gates.scores + gates.gradients,
        limits["finite"],
        "numeric",
        "stabilise the cell: m = max(log sigma(f) + m, i), and exp only of differences to m",
        unit="values",
        where="" if gates is None else gates.where,
        proof=evidence.no_gates,
        explained_by=("cell",),
    )
    driven = evidence.driven
    apart = exact(
        "number of scores not finite with two parts of a cell at 120 and -120",
        None if driven is None else driven.scores,
        limits["finite"],
        "numeric",
        "start the stabiliser at minus infinity, or at the first input gate: exp(i - m) is then 1",
        "subtract a running maximum before every exp",
        unit="scores",
        where="" if driven is None else driven.where,
        proof=evidence.not_driven,
        explained_by=("cell",),
    )
    stressed = exact(
        "number of values not finite under three-fold weights",
        stress.stressed_scores + stress.stressed_gradients,
        limits["finite"],
        "numeric",
        "find the first layer that is not finite under large weights",
        unit="values",
        where=stress.where,
        explained_by=("cell",),
    )
    trained = exact(
        "number of epochs of the finished training with a loss not finite",
        evidence.bad_epochs,
        limits["finite"],
        "numeric",
        "lower train.shared.max_grad_norm or the learning rate",
        unit="epochs",
        missing="a finished training",
        essential=False,
        explained_by=("learning_rate", "loss"),
    )
    return QUESTION.finding(evidence, extreme, apart, stressed, _clipped(evidence, limits), trained)


def _clipped(evidence: Evidence, limits: Limits) -> Check:
    found = evidence.clipping
    value, proof, missing = None, "", evidence.no_clipping
    if not evidence.is_stated:
        proof = "nothing is declared about clipping"
    elif found is not None and found.declared == 0:
        proof = "no clipping is declared"
    elif found is not None:
        value = found.norm_at_optimizer / found.declared
    return exact(
        "gradient norm at the optimiser over the declared limit",
        value,
        limits["norm"],
        "clipping",
        "clip between backward and step, with train.shared.max_grad_norm",
        proof=proof,
        missing=missing,
        explained_by=("gradient_flow", "loss"),
    )


QUESTION = Question(
    id="clipping_stops_explosions",
    number="X15",
    title="Is the model safe from exploding values: stabilised cells, and clipping that works?",
    stages=("numeric", "clipping"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
