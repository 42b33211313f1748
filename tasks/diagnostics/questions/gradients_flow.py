"""G15. Does every parameter get its true gradient, and does the optimiser use it?

Reads: slopes of the program's loss along one random direction per parameter, by autograd and by
finite differences in float64; three optimiser steps of the program.

Rule: where the loss depends on a parameter, its gradient is the slope, not zero and not another
number (a detached state, a wrong custom backward); every trainable parameter is in the optimiser
and no other; every step reaches the optimiser; parameters with a gradient move, and down at first;
what the optimiser gets is the loss's own gradient, once; nothing of the last step's gradient is
left in the next one, and the optimiser remembers its steps. A parameter the loss does not depend
on at all gets no gradient and is reported as unused: some are so by derivation (the input-gate bias
of an exponential-gate sLSTM, an attention key bias).

Limits: float64 finite differences agree to 1e-6; 1e-2 leaves room for kinks (ReLU, clamp) within
the step. Gradients are never called too small: Adam does not care, and absolute limits for
vanishing gradients are the classic false alarm.

The same picture from elsewhere: a core whose result is not used makes its parameters unused
(`order_and_flow`).

It can't tell: whether the gradient helps to generalise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import clipping, gradient_check, step_trace, step_use
from tasks.diagnostics.measurements.gradient_check import GradientCheck
from tasks.diagnostics.measurements.step_trace import StepTrace
from tasks.diagnostics.measurements.step_use import StepUse
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity
from tasks.diagnostics.stages import Stage

LIMITS = {
    "count": Limit(0, "identity: the gradient is the slope, and the optimiser has it"),
    "scale": Limit(0.02, "identity far below the clipping limit; mixed precision, three digits"),
    "direction": Limit(0.99, "identity: one factor for all gradients"),
    "stale": Limit(1e-3, "identity; repeated passes differ by rounding, 1e-6"),
    "calls": Limit(1, "three steps of training call the optimiser at least once"),
}


@dataclass(frozen=True)
class Evidence:
    """Slopes, and what steps do with them."""

    slopes: GradientCheck
    steps: StepTrace
    scale: float | None = quantity("gradient norm at the optimiser over that of the loss")
    cosine: float | None = quantity("cosine between the optimiser's gradient and the loss's")
    use: StepUse | None = None
    accumulate: int = quantity("declared batches per optimiser step", default=1)


def measure(probe: Probe) -> Evidence:
    """Check slopes and steps."""
    scale = cosine = use = None
    with suppress(NotMeasuredError):
        arriving = probe.evidence(clipping.measure)
        scale, cosine = arriving.small_ratio, arriving.small_cosine
    with suppress(NotMeasuredError):
        use = probe.evidence(step_use.measure)
    return Evidence(
        slopes=probe.evidence(gradient_check.measure),
        steps=probe.evidence(step_trace.measure),
        scale=scale,
        cosine=cosine,
        use=use,
        accumulate=probe.subject.declared.accumulate_steps,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """True gradients that arrive and are used."""
    return QUESTION.finding(
        evidence,
        *_slopes(evidence.slopes, limits),
        *_steps(evidence.steps, limits, evidence.accumulate),
        _scale(evidence, limits),
        _direction(evidence, limits),
        *_use(evidence.use, limits),
    )


def _direction(evidence: Evidence, limits: Limits) -> Check:
    return exact(
        "cosine between the gradient at the optimiser and that of the loss, far below the limit",
        evidence.cosine,
        limits["direction"],
        "optimiser",
        "look for what changes gradients between backward and step: signs, noise, hooks",
        relation="at_least",
        missing="a finite gradient at the optimiser",
        essential=False,
        explained_by=("loss", "gradient_flow", "stochastic", "state", "regularisation"),
    )


def _use(use: StepUse | None, limits: Limits) -> list[Check]:
    def none(
        name: str, value: int | None, advice: str, unit: str, where: str = "", *causes: Stage
    ) -> Check:
        return exact(
            name,
            value,
            limits["count"],
            "optimiser",
            advice,
            unit=unit,
            where=where,
            missing="optimiser steps with a finite gradient",
            essential=False,
            explained_by=("loss", "gradient_flow", "numeric", "stochastic", "state", *causes),
        )

    return [
        none(
            "number of parameters whose first step raises the loss",
            None if use is None else use.uphill,
            "check the sign: `maximize`, a negated gradient, a loss that is to be maximised",
            "parameters",
            "" if use is None else use.first_uphill,
        ),
        none(
            "number of parameters with a gradient that does not reach the optimiser",
            None if use is None else use.lost,
            "look for what clears gradients between backward and step",
            "parameters",
            "" if use is None else use.first_lost,
        ),
        none(
            "number of parameters that move at first and later do not",
            None if use is None else use.stopped,
            "look for what freezes parameters, or copies weights back, after some steps",
            "parameters",
            "" if use is None else use.first_stopped,
            "learning_rate",
        ),
        none(
            "number of optimiser steps without any gradient",
            None if use is None else use.without,
            "call loss.backward() before optimizer.step(), and zero_grad() before both",
            "steps",
        ),
        none(
            "number of optimiser steps with the gradient of the step before",
            None if use is None else use.used_again,
            "call optimizer.step() once per backward pass",
            "steps",
        ),
        none(
            "number of steps that the optimiser's own counter does not know of",
            None if use is None else use.forgotten,
            "build the optimiser once, and leave its state to it",
            "steps",
        ),
    ]


def _scale(evidence: Evidence, limits: Limits) -> Check:
    return exact(
        "relative difference between the gradient at the optimiser and that of the loss",
        None if evidence.scale is None else abs(evidence.scale - 1),
        limits["scale"],
        "optimiser",
        "divide accumulated losses by the number of parts, and step once per accumulation",
        missing="a finite gradient at the optimiser",
        essential=False,
        explained_by=("loss", "clipping", "gradient_flow", "stochastic", "state", "regularisation"),
    )


def _slopes(slopes: GradientCheck, limits: Limits) -> list[Check]:
    return [
        exact(
            "number of parameters the loss depends on that get no gradient",
            slopes.blocked,
            limits["count"],
            "gradient_flow",
            "look for .detach(), .data, torch.no_grad() or an integer cast on the way from this "
            "parameter to the loss",
            unit="parameters",
            where=slopes.first_blocked,
            explained_by=("loss",),
        ),
        exact(
            "number of parameters whose gradient is not the slope of the loss",
            slopes.wrong,
            limits["count"],
            "gradient_flow",
            "check states for a detach between positions, and custom backward functions",
            unit="parameters",
            where=slopes.first_wrong,
            explained_by=("loss", "stochastic", "state", "numeric", "embedding"),
        ),
        exact(
            "number of weight matrices the loss does not depend on",
            slopes.unused_matrices,
            limits["count"],
            "core",
            "check that the result of this layer is used, and not its input",
            unit="matrices",
            where=slopes.first_unused,
            breach="suspect",
        ),
        exact(
            "number of weight matrices of recurrent or attention layers without effect on the loss",
            slopes.unused_recurrent,
            limits["count"],
            "core",
            "return the result of the last layer, and hand each layer that of the one before",
            unit="matrices",
            where=slopes.first_unused,
            explained_by=("embedding", "loss"),
        ),
        exact(
            "number of parameters that are frozen",
            slopes.frozen,
            limits["count"],
            "gradient_flow",
            "set requires_grad=True, or take the parameter out of the model",
            unit="parameters",
            where=slopes.first_frozen,
            breach="suspect",
        ),
    ]


def _steps(steps: StepTrace, limits: Limits, accumulate: int) -> list[Check]:
    return [
        exact(
            "number of trainable parameters that the optimiser does not have",
            steps.missing + steps.foreign,
            limits["count"],
            "optimiser",
            "build the optimiser from this model's parameters, after the model is complete",
            unit="parameters",
            where=steps.first_missing,
        ),
        exact(
            "number of parameters with a gradient that did not move in three steps",
            steps.unmoved,
            limits["count"],
            "optimiser",
            "check learning rates per group, hooks, and what is copied back after a step",
            unit="parameters",
            where=steps.first_unmoved,
            explained_by=("learning_rate",),
        ),
        exact(
            "number of weight matrices that moved in three steps",
            steps.moved_matrices,
            limits["calls"],
            "optimiser",
            "call loss.backward() and optimizer.step() in every step",
            unit="matrices",
            relation="at_least",
            explained_by=("loss", "gradient_flow", "numeric"),
        ),
        exact(
            "training steps of three in which the optimiser made none",
            max(0, 3 - steps.optimizer_calls),
            limits["count"],
            "optimiser",
            "call optimizer.step() once per batch, or declare how many batches make a step",
            unit="steps",
            proof="" if accumulate == 1 else f"{accumulate} batches make a step by declaration",
            explained_by=("loss", "gradient_flow", "numeric"),
        ),
        exact(
            "share of a gradient that is left over from the step before",
            steps.stale_gradient,
            limits["stale"],
            "optimiser",
            "call optimizer.zero_grad() before every backward pass",
            missing="gradients at two calls of optimizer.step",
            essential=False,
            explained_by=("stochastic", "state", "regularisation"),
        ),
    ]


QUESTION = Question(
    id="gradients_flow",
    number="G15",
    title="Does every parameter get its true gradient, and does the optimiser use it?",
    stages=("gradient_flow", "core", "optimiser"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"make_optimizer", "train_step"}),
)
