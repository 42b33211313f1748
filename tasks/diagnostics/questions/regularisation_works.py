"""G19. Do dropout and weight decay do what is declared, in training only?

Reads: zeros counted at the source of randomness in training and eval mode; the mode of every
dropout layer within a training step; the shrinkage of weights by one optimiser step with zero
gradients.

Rule: the largest dropped share is the declared rate; nothing is dropped in eval mode and equal
calls give equal scores; layers run in training mode within a step; weights shrink by learning rate
x weight decay, and by less than a factor e in a hundred steps; what is dropped shows in the scores
and is not more than four fifths. Exact, but for the share, whose
count is binomial.

Limits: five standard errors and 0.02 for the rate; 5 % of the declared shrinkage (float64, the
median over a parameter's entries); one e-fold per hundred steps removes what is learned faster
than it can be learned.

The same picture from elsewhere: random initial states make equal calls differ, too
(`states_start_clean`).

It can't tell: dropout inside fused recurrent kernels, which shows only as differing passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import dropout_rate, repeated_calls, step_trace, weight_decay
from tasks.diagnostics.measurements.dropout_rate import DropoutRate
from tasks.diagnostics.measurements.weight_decay import WeightDecay
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "errors": Limit(5.0, "standard errors of a binomial share; 5 happen once in 2 million"),
    "floor": Limit(0.02, "smallest difference of rates worth naming"),
    "noise": Limit(1e-6, "identity: what is dropped is missing from the scores"),
    "rate": Limit(
        0.8, "Srivastava et al. 2014 keep 0.5 to 0.8; below 0.2 noise is four times signal"
    ),
    "kept": Limit(0.1, "identity: sizes are the same with and without; shares are counted"),
    "eval": Limit(0.0, "identity: nothing is dropped while scoring"),
    "calls": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "mode": Limit(0, "identity: a step trains, so its layers are in training mode"),
    "decay": Limit(0.05, "identity in float64; median over a parameter's entries"),
    "strength": Limit(1.0, "an e-fold of shrinkage per 100 steps undoes learning"),
}


@dataclass(frozen=True)
class Evidence:
    """Dropout, modes and decay as measured."""

    dropout: DropoutRate
    decay: WeightDecay
    by_randomness: float = quantity("standard deviations of the logits")
    train_mode: bool | None = quantity("modules run in training mode within a step")
    states_dropout: bool = quantity("a dropout rate is declared")
    states_decay: bool = quantity("a weight decay is declared")


def measure(probe: Probe) -> Evidence:
    """Count, repeat and shrink."""
    declared = probe.subject.declared
    return Evidence(
        dropout=probe.evidence(dropout_rate.measure),
        decay=probe.evidence(weight_decay.measure),
        by_randomness=probe.evidence(repeated_calls.measure).by_randomness,
        train_mode=probe.evidence(step_trace.measure).train_mode,
        states_dropout=declared.states("dropout"),
        states_decay=declared.states("weight_decay"),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Declared rates in training, nothing in eval mode."""
    undeclared = "" if evidence.states_dropout else "no dropout rate is declared"
    return QUESTION.finding(
        evidence,
        *_dropped(evidence.dropout, undeclared, limits),
        *_modes(evidence, undeclared, limits),
        *_decay(evidence, limits),
    )


def _dropped(dropout: DropoutRate, undeclared: str, limits: Limits) -> list[Check]:
    """How much is dropped in training, and whether that shows."""
    room = max(limits["errors"].value * dropout.standard_error, limits["floor"].value)
    hidden = dropout.largest_rate == 0 and dropout.training_differs > 0
    return [
        exact(
            "difference between the share dropped in training and the declared rate",
            abs(dropout.largest_rate - dropout.declared),
            Limit(room, "5 standard errors of a binomial share, at least 0.02"),
            "regularisation",
            "compare the dropout layers' p with the setting, and that forward calls them",
            where=f"dropped {dropout.largest_rate:.3g}, declared {dropout.declared:.3g}",
            proof=undeclared or ("dropout runs inside a fused kernel" if hidden else ""),
        ),
        exact(
            "change of a score between two passes in training mode",
            dropout.training_differs,
            limits["noise"],
            "regularisation",
            "use the result of the dropout layer, not its input",
            unit="standard deviations of the logits",
            relation="at_least",
            proof="" if dropout.declared > 0 and not undeclared else "no dropout is declared",
            explained_by=("core", "embedding"),
        ),
        exact(
            "difference from 1 of what dropout keeps over its input, times the share kept",
            None if dropout.kept_scale is None else abs(dropout.kept_scale - 1),
            limits["kept"],
            "regularisation",
            "divide what is kept by 1 - p, or multiply by it while scoring",
            missing="a dropout layer that drops something",
            essential=False,
        ),
        exact(
            "largest share dropped in training",
            dropout.largest_rate,
            limits["rate"],
            "regularisation",
            "lower train.<model>.dropout",
        ),
    ]


def _modes(evidence: Evidence, undeclared: str, limits: Limits) -> list[Check]:
    """Nothing is dropped in eval mode, and a step runs in training mode."""
    return [
        exact(
            "share dropped in eval mode",
            evidence.dropout.rate_in_eval,
            limits["eval"],
            "stochastic",
            "give functional dropout training=self.training",
        ),
        exact(
            "largest change of a score in eval mode when only the random state differs",
            evidence.by_randomness,
            limits["calls"],
            "stochastic",
            "look for functional dropout, random initial states or sampling in forward",
            unit="standard deviations of the logits",
        ),
        exact(
            "layers in eval mode within a training step",
            None if evidence.train_mode is None else int(not evidence.train_mode),
            limits["mode"],
            "regularisation",
            "call model.train() at the start of every step, and after every evaluation",
            missing="a module that runs within a training step",
            proof="" if evidence.dropout.declared > 0 or undeclared else "no dropout is declared",
        ),
    ]


def _decay(evidence: Evidence, limits: Limits) -> list[Check]:
    decay = evidence.decay
    scale = decay.declared if decay.declared > 0 else 1.0
    return [
        exact(
            "difference between measured and declared shrinkage of a step",
            abs(decay.largest_shrink - decay.declared) / scale,
            limits["decay"],
            "regularisation",
            "pass train.<model>.weight_decay to the optimiser, for matrices at least",
            unit="of the declared shrinkage" if decay.declared > 0 else "",
            where=f"measured {decay.largest_shrink:.3g}, declared {decay.declared:.3g}",
            proof="" if evidence.states_decay else "no weight decay is declared",
        ),
        exact(
            "shrinkage of the weights over 100 steps without gradients",
            100 * decay.largest_shrink,
            limits["strength"],
            "regularisation",
            "lower train.<model>.weight_decay",
            explained_by=("learning_rate",),
        ),
    ]


QUESTION = Question(
    id="regularisation_works",
    number="G19",
    title="Do dropout and weight decay do what is declared, in training only?",
    stages=("regularisation", "stochastic"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
