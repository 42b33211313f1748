"""G16. Are gradients clipped to the declared global norm?

Reads: the raw gradient of the program's loss and the gradient its optimiser gets when the step is
handed that loss times a factor that lifts the norm to ten times the limit; learning rate 0, dropout
off.

Rule: the optimiser gets a gradient of exactly the declared norm in the raw direction; where no
clipping is declared it gets the raw gradient. Exact.

Limits: 2 % of the declared norm: `clip_grad_norm_` adds 1e-6 to the divisor, mixed precision loses
three digits. Direction: a global norm keeps it, cosine 0.99; clipping by value does not.

The same picture from elsewhere: gradients summed over several backward passes arrive larger than
the raw ones (`gradients_flow`).

It can't tell: whether the limit is well chosen; the share of clipped steps of a finished training
is in its records.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import clipping
from tasks.diagnostics.measurements.clipping import Clipping
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "norm": Limit(0.02, "identity; mixed precision loses three digits"),
    "direction": Limit(0.99, "identity: one factor for all gradients"),
}


@dataclass(frozen=True)
class Evidence:
    """Gradients before and at the optimiser."""

    clipping: Clipping
    is_stated: bool = quantity("the program says whether it clips")


def measure(probe: Probe) -> Evidence:
    """Compare the raw gradient with what the optimiser gets."""
    return Evidence(
        clipping=probe.evidence(clipping.measure),
        is_stated=probe.subject.declared.states("max_grad_norm"),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """The declared norm, the raw direction."""
    return _judge(evidence, evidence.clipping, limits)


def _judge(whole: Evidence, evidence: Clipping, limits: Limits) -> Finding:
    unstated = "" if whole.is_stated else "nothing is declared about clipping"
    expected = evidence.declared if evidence.declared > 0 else evidence.raw_norm
    norm = exact(
        "relative difference between the optimiser's gradient norm and the declared clipping",
        abs(evidence.norm_at_optimizer / expected - 1),
        limits["norm"],
        "clipping",
        "clip between backward and step, with train.shared.max_grad_norm",
        where=f"raw norm {evidence.raw_norm:.3g}, at the optimiser "
        f"{evidence.norm_at_optimizer:.3g}, declared {evidence.declared:.3g}",
        proof=unstated,
        explained_by=("gradient_flow", "loss"),
    )
    direction = exact(
        "cosine between the optimiser's gradient and the raw one",
        evidence.cosine,
        limits["direction"],
        "clipping",
        "clip by global norm, not value by value",
        relation="at_least",
        proof=unstated,
        explained_by=("gradient_flow", "optimiser", "loss", "stochastic", "regularisation"),
    )
    return QUESTION.finding(whole, norm, direction)


QUESTION = Question(
    id="clipping_works",
    number="G16",
    title="Are gradients clipped to the declared global norm?",
    stages=("clipping",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
