"""G20. Has training lowered the loss, as far as the data allow at all?

Reads: the declared loss of trained weights on real training windows, recomputed from logits with
dropout off; the same loss of items scored alike, by popularity, and by transition counts on events
they have not seen; the learning rates on record.

Rule: training takes off at least a quarter of what counting takes off. Where counting takes off
next to nothing there is nothing to learn, and nothing is judged; a training whose loss still falls
is not judged either. A loss at popularity's level where transitions tell more is suspect: that much
is learned without reading the history. A learning rate of almost nothing through most of the
training is a cause of its own.

Limits: a quarter of the fall by counting: counts are the least any model of the data should reach,
and healthy trainings measured 0.9 and more. 2 % as the least fall by counting that is worth a
comparison. Half of the epochs: a schedule may end at 0, but not live there.

The same picture from elsewhere: a wrong loss, gradients that do not arrive, frozen parameters; the
exact questions find those before any training.

It can't tell: why the loss is flat. It is a symptom; the deep mode looks for a cure
(`learning_rate_suits_depth`, `batch_stabilises_training`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import loss_curve, loss_outcome, trained_out
from tasks.diagnostics.measurements.loss_outcome import LossOutcome
from tasks.diagnostics.measurements.trained_out import TrainedOut
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "finite": Limit(0, "identity: a weight is a number"),
    "share": Limit(0.25, "counting is the least a model should reach; healthy ones pass 0.9"),
    "worth": Limit(0.02, "where counting takes off less, there is next to nothing to learn"),
    "beyond": Limit(0.1, "a tenth of what transitions add to popularity on unseen events"),
    "slow": Limit(0.5, "a schedule may end near 0, but not live there"),
}


@dataclass(frozen=True)
class Evidence:
    """The loss after training, and what it is compared with."""

    outcome: LossOutcome
    state: TrainedOut
    bad_weights: int = quantity("trained parameters that are not finite")
    slow_share: float | None = quantity("share of epochs at under 0.001 of the peak learning rate")


def measure(probe: Probe) -> Evidence:
    """Recompute the loss and read the learning rates."""
    model = probe.model(trained=True)
    try:
        slow_share = probe.evidence(loss_curve.measure).slow_share
    except NotMeasuredError:
        slow_share = None
    return Evidence(
        outcome=probe.evidence(loss_outcome.measure),
        state=probe.evidence(trained_out.measure),
        bad_weights=sum(not bool(torch.isfinite(p).all()) for p in model.parameters()),
        slow_share=slow_share,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Lower than counting allows for, on a training that is over."""
    outcome, state = evidence.outcome, evidence.state
    finite = exact(
        "number of trained parameters that are not finite",
        evidence.bad_weights,
        limits["finite"],
        "symptom",
        "find the first step with a value that is not finite in steps.jsonl",
        unit="parameters",
    )
    nothing = outcome.fall_by_counting < limits["worth"].value and outcome.uniform > 0
    unjudged = "" if state.done else state.missing
    share = outcome.fall / outcome.fall_by_counting if outcome.fall_by_counting > 0 else 1.0
    reached = share >= limits["share"].value
    fall = Check(
        name="fall of the loss by training, per fall by counting",
        value=share if state.done or reached else None,
        unit="",
        limit=limits["share"],
        stage="symptom",
        rule="oracle",
        relation="at_least",
        missing=unjudged,
        proof=f"counting takes only {outcome.fall_by_counting:.1%} off the loss" if nothing else "",
        advice=(
            "run `assay diagnose --deep`: it looks for a learning rate or batch size that cures",
        ),
    )
    added = outcome.popularity - outcome.transitions
    beyond = Check(
        name="fall of the loss below popularity's, per fall by transitions on unseen events",
        value=(outcome.popularity - outcome.trained) / added if added > 0 and state.done else None,
        unit="",
        limit=limits["beyond"],
        stage="symptom",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        missing=unjudged or "a loss to which transition counts can be compared",
        proof="" if added > 0 else "transition counts tell no more than popularity",
        essential=False,
        advice=("see order_and_flow and embeddings_learn: does the history reach the scores?",),
    )
    slow = Check(
        name="share of epochs at under a thousandth of the peak learning rate",
        value=evidence.slow_share,
        unit="of epochs",
        limit=limits["slow"],
        stage="learning_rate",
        rule="exact",
        missing="learning rates in the records of the training",
        essential=False,
        advice=("look at train.shared.schedule and warmup_steps: the rate falls too early",),
    )
    return QUESTION.finding(evidence, finite, fall, beyond, slow)


QUESTION = Question(
    id="loss_falls",
    number="G20",
    title="Has training lowered the loss, as far as the data allow at all?",
    stages=("symptom", "learning_rate"),
    mode="after_training",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
