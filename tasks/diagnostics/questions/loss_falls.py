"""G20. Has training lowered the loss, as far as the data allow at all?

Reads: the declared loss of trained weights on real training windows, recomputed from logits with
dropout off; the same loss of items scored alike, by popularity, and by transition counts on events
they have not seen; the loss and the learning rate per epoch.

Rule: a training ends in finite numbers. One whose loss is level has taken off at least a quarter of
what knowing the items' popularity takes off, the first thing any model learns. Where popularity
takes off next to nothing, or where the loss still falls, that is not judged. A level loss that is
no better than popularity's where transitions tell more is suspect: models rest there for a while
before they find any order. A learning rate of almost nothing through most of the training is a
cause of its own, and so are weights that rest for epochs. In the deep mode, a training without
skill is made again by the program's own steps at a constant rate: if that has skill (two seeds),
schedule, stopping or the choice of weights took it away.

Limits: a quarter of popularity's fall: healthy trainings measured 0.9 and more of it within a
hundred steps. 2 % as the least fall that is worth a comparison. Half of the epochs: a schedule may
end at 0, but not live there.

The same picture from elsewhere: a wrong loss, gradients that do not arrive, frozen parameters; the
exact questions find those before any training.

It can't tell: why the loss is flat. It is a symptom; the deep mode looks for further cures
(`learning_rate_suits`, `batch_and_length_suit`, `batch_stabilises_training`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import loss_curve, loss_outcome, trained_out
from tasks.diagnostics.measurements.cure_checks import (
    CURE_LIMIT,
    Remedies,
    cure_check,
    look_for_cures,
)
from tasks.diagnostics.measurements.loss_outcome import LossOutcome
from tasks.diagnostics.measurements.trained_out import TrainedOut
from tasks.diagnostics.measurements.training_records import unmoved_epochs
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "finite": Limit(0, "identity: a weight is a number"),
    "share": Limit(0.25, "popularity is learned first; healthy trainings pass 0.9"),
    "worth": Limit(0.02, "where popularity takes off less, there is next to nothing to compare"),
    "beyond": Limit(0.1, "a tenth of what transitions add to popularity on unseen events"),
    "slow": Limit(0.5, "a schedule may end near 0, but not live there"),
    "cured": CURE_LIMIT,
}


@dataclass(frozen=True)
class Evidence:
    """The loss after training, and what it is compared with."""

    outcome: LossOutcome | None
    state: TrainedOut | None
    bad_weights: int = quantity("trained parameters that are not finite")
    slow_share: float | None = quantity("share of epochs at under 0.001 of the peak learning rate")
    recorded: float | None = quantity("recorded loss of the last epoch")
    unmoved_epochs: int = quantity("epochs without any movement", default=0)
    remedies: Remedies = field(default_factory=Remedies)
    failure: str = ""

    @property
    def lowest(self) -> float:
        """Loss that training came down to: the weights kept may be those of an early epoch."""
        last = self.recorded
        return self.outcome.trained if last is None else min(self.outcome.trained, last)


def measure(probe: Probe) -> Evidence:
    """Recompute the loss and read the learning rates."""
    if probe.subject.trained is None and probe.subject.failure:
        return Evidence(None, None, 0, None, None, failure=probe.subject.failure)
    model = probe.model(trained=True)
    try:
        curve = probe.evidence(loss_curve.measure)
    except NotMeasuredError:
        curve = None
    return Evidence(
        outcome=probe.evidence(loss_outcome.measure),
        state=probe.evidence(trained_out.measure),
        bad_weights=sum(not bool(torch.isfinite(p).all()) for p in model.parameters()),
        slow_share=None if curve is None else curve.slow_share,
        recorded=None if curve is None else curve.last,
        unmoved_epochs=unmoved_epochs(probe.subject.trained),
        remedies=look_for_cures(probe),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Lower than counting allows for, on a training that is over."""
    if evidence.failure:
        return QUESTION.finding(evidence, _failed(evidence, limits))
    finite = exact(
        "number of trained parameters that are not finite",
        evidence.bad_weights,
        limits["finite"],
        "symptom",
        "find the first step with a value that is not finite in steps.jsonl",
        unit="parameters",
    )
    again = cure_check(
        evidence.remedies,
        "again",
        "by the program's own steps at a constant rate",
        limits["cured"],
        "learning_rate",
        "compare the rate of every step, the epoch training ended and the weights it kept",
        explained_by=("metric",),
    )
    fall, beyond = _fall(evidence, limits), _fall_below_popularity(evidence, limits)
    return QUESTION.finding(evidence, finite, fall, beyond, *_at_rest(evidence, limits), again)


def _fall(evidence: Evidence, limits: Limits) -> Check:
    outcome, state = evidence.outcome, evidence.state
    popular = outcome.uniform - outcome.popularity
    worth = popular > limits["worth"].value * abs(outcome.uniform)
    reached = (outcome.uniform - evidence.lowest) / popular if worth else 1.0
    judged = state.levelled or reached >= limits["share"].value
    return Check(
        name="fall of the loss by training, per fall by popularity",
        value=reached if judged else None,
        unit="",
        limit=limits["share"],
        stage="symptom",
        rule="oracle",
        relation="at_least",
        missing=state.missing,
        proof="" if worth else f"popularity takes only {popular:.3g} nats off the loss",
        advice=("run `assay diagnose --deep`: it looks for a rate or batch size that cures",),
    )


def _fall_below_popularity(evidence: Evidence, limits: Limits) -> Check:
    outcome, state = evidence.outcome, evidence.state
    added = outcome.popularity - outcome.transitions
    tells = added > limits["worth"].value * abs(outcome.uniform)
    return Check(
        name="fall of the loss below popularity's, per fall by transitions on unseen events",
        value=(outcome.popularity - evidence.lowest) / added if tells and state.levelled else None,
        unit="",
        limit=limits["beyond"],
        stage="symptom",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        missing=state.missing,
        proof="" if tells else "transition counts tell no more than popularity",
        essential=False,
        advice=("run `assay diagnose --deep`: does a longer training find the order?",),
    )


def _at_rest(evidence: Evidence, limits: Limits) -> tuple[Check, Check]:
    """Epochs of almost no learning rate, and epochs over which weights do not move."""
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
    rests = exact(
        "number of epochs after the best one over which no weight moved",
        evidence.unmoved_epochs,
        limits["finite"],
        "learning_rate",
        "look at the learning rate of every step: is it 0 long before the end?",
        unit="epochs",
        explained_by=(
            *("optimiser", "gradient_flow", "loss", "embedding", "core", "clipping"),
            *("metric", "inference"),
        ),
    )
    return slow, rests


def _failed(evidence: Evidence, limits: Limits) -> Check:
    return exact(
        "number of trainings that could not go on",
        1,
        limits["finite"],
        "numeric",
        "look at the step that is named: which loss, gradient or weight is not finite there?",
        unit="trainings",
        where=evidence.failure,
        explained_by=("loss", "cell", "embedding", "clipping", "regularisation", "learning_rate"),
    )


QUESTION = Question(
    id="loss_falls",
    number="G20",
    title="Has training lowered the loss, as far as the data allow at all?",
    stages=("symptom", "learning_rate", "numeric"),
    mode="after_training",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
