"""G1. Can the program memorise eight windows, as far as they can be memorised at all?

Reads: trainings on eight real windows of up to 16 pairs with dropout and weight decay off, at most
300 steps each; the declared loss, recomputed from logits. Deep: 1 to 3 seconds where the program
can, up to a minute where it can't.

Rule: the program's own steps leave at most a tenth of the learnable part of the loss. Learnable is
what lies between a uniform guess and the floor, the entropy of targets that follow identical
pasts, which no model can tell apart. Where the program fails, one thing more at a time is made a
plain one: its learning rate, its optimiser, its loss. What cures names what was broken; if nothing
does, the model itself can't learn. A seed that fails is followed by another; two of three decide.

Limits: a tenth: healthy models of all kinds pass it within 50 to 275 steps. Learning rate and
optimiser are judged at half, since 300 steps may be few for a careful rate, and not at all where
the declared training has more steps than were tried and only a larger rate would have helped.

The same picture from elsewhere: gradients that do not arrive, parameters the optimiser lacks;
the exact questions see those.

It can't tell: whether anything learned carries over to other users (`validation_improves`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import overfit
from tasks.diagnostics.measurements.overfit import MEMORISED, STEPS, Overfit
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question
from tasks.diagnostics.stages import Stage

LIMITS = {
    "core": Limit(MEMORISED, "healthy models of all kinds pass it within 275 steps"),
    "means": Limit(0.5, "half of what 300 steps can teach; healthy programs leave 0.37 at most"),
}
CAUSES: tuple[Stage, ...] = ("gradient_flow", "embedding", "output", "pad", "stochastic", "numeric")


def measure(probe: Probe) -> Overfit:
    """Memorise eight windows."""
    return probe.evidence(overfit.measure_subset)


def judge(evidence: Overfit, limits: Limits) -> Finding:
    """The program can; or else what made it able to."""
    return QUESTION.finding(evidence, *checks(evidence, limits, "core"))


def checks(found: Overfit, limits: Limits, core: Stage) -> tuple[Check, ...]:
    """Compare what each further means leaves; shared with the question about one user."""
    by_model = Check(
        name="share of the learnable loss that is left by plain AdamW on a recomputed loss",
        value=found.any_loss,
        unit="",
        limit=limits["core"],
        stage=core,
        rule="intervention",
        explained_by=CAUSES,
        advice=("train one window with dropout off and watch which weights move",),
    )
    by_loss = Check(
        name="share of the learnable loss that is left by plain AdamW",
        value=found.any_optimiser,
        unit="",
        limit=limits["core"],
        stage="loss",
        rule="intervention",
        explained_by=(core, *CAUSES),
        advice=("compare the training loss with cross-entropy on one batch",),
    )
    by_optimiser = Check(
        name="share of the learnable loss that is left at the best multiple of the learning rate",
        value=found.any_rate,
        unit="",
        limit=limits["means"],
        stage="optimiser",
        rule="intervention",
        explained_by=("loss", "clipping", "regularisation", core, *CAUSES),
        advice=("replace the optimiser step by zero_grad, backward, AdamW.step on one batch",),
    )
    return by_model, by_loss, by_optimiser, _by_rate(found, limits, core)


def _by_rate(found: Overfit, limits: Limits, core: Stage) -> Check:
    judged = found.budget <= STEPS or found.best_rate <= 1.0
    return Check(
        name="share of the learnable loss that is left by the program's own steps",
        value=found.own if judged else None,
        unit="",
        limit=limits["means"],
        stage="learning_rate",
        rule="intervention",
        where=f"best at {found.best_rate:g} times the learning rate",
        missing=f"{found.budget} steps at the program's own learning rate; {STEPS} were made",
        essential=False,
        explained_by=("optimiser", "loss", "clipping", "regularisation", core, *CAUSES),
        advice=(f"try {found.best_rate:g} times train.<model>.learning_rate",),
    )


QUESTION = Question(
    id="overfits_small_subset",
    number="G1",
    title="Can the program memorise eight windows, as far as they can be memorised at all?",
    stages=("core", "loss", "optimiser", "learning_rate"),
    mode="deep",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"train_step"}),
)
