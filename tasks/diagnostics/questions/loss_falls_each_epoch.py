"""X20. Does the recorded loss fall from epoch to epoch, without coming back up?

Reads: `train/loss` per epoch; in the deep mode, where it rises, that of a training with another
seed.

Rule: every epoch's loss is finite; the loss does not rise over the training (Theil-Sen slope with
Mann-Kendall's test of trend); the epochs after the lowest one have not given back half of what
training gained (the same test on those epochs). What one training shows is suspect until another
seed shows it too.

Limits: a rise of 2 % of the first loss over the whole training is the floor below which a trend is
no matter. Half of the fall: noise between epochs of healthy trainings measured below a tenth.
A fall of less than 5 % of the first loss counts as 5 %, so that noise on a flat curve is not called
a rebound.

The same picture from elsewhere: a loss recorded wrongly (`internals_shown`); a learning rate that
is too large (`learning_rate_suits`).

It can't tell: whether the loss is low enough (`loss_falls`), nor why it rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.diagnostics.finding import FAMILY_LEVEL, Check, Finding, Limit, Repeat, exact
from tasks.diagnostics.measurements import loss_curve, second_training
from tasks.diagnostics.measurements.loss_curve import LossCurve
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

FEWEST_EPOCHS = 4
SMALL_FALL = 0.05

LIMITS = {
    "finite": Limit(0, "identity: a loss is a number"),
    "rise": Limit(0.02, "floor below which a trend does not matter; Mann-Kendall decides above"),
    "rebound": Limit(0.5, "noise between epochs of healthy trainings stays below a tenth"),
}


@dataclass(frozen=True)
class Evidence:
    """The curve of the finished training, and what a second one shows where this one rises."""

    curve: LossCurve
    rises_again: Repeat | None = None
    rebounds_again: Repeat | None = None


def measure(probe: Probe) -> Evidence:
    """Read the curve; train again where it is a bad one and the budget allows it."""
    curve = probe.evidence(loss_curve.measure)
    return Evidence(
        curve,
        _again(probe, curve, _rise, LIMITS["rise"]),
        _again(probe, curve, _rebound, LIMITS["rebound"]),
    )


def _again(
    probe: Probe, curve: LossCurve, read: Callable[[LossCurve], Repeat], limit: Limit
) -> Repeat | None:
    found = read(curve)
    if not _long_enough(curve) or found.value <= limit.value or found.p_value > FAMILY_LEVEL:
        return None
    return second_training.repeat(probe, loss_curve.measure, read)


def _long_enough(curve: LossCurve) -> bool:
    return curve.num_epochs - curve.not_finite >= FEWEST_EPOCHS


def _scale(curve: LossCurve) -> float:
    return max(abs(curve.first), 1e-12)


def _rise(curve: LossCurve) -> Repeat:
    return Repeat(curve.slope * (curve.num_epochs - 1) / _scale(curve), curve.p_of_rise)


def _rebound(curve: LossCurve) -> Repeat:
    fall = max(curve.first - curve.lowest, SMALL_FALL * _scale(curve))
    return Repeat((curve.last - curve.lowest) / fall, curve.p_of_rebound)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Finite, falling, staying down."""
    curve = evidence.curve
    judged = _long_enough(curve)
    missing = (
        f"{FEWEST_EPOCHS} epochs with a loss; there are {curve.num_epochs} "
        "(raise train.shared.max_epochs, then `assay run`)"
    )
    finite = exact(
        "number of epochs whose loss is not finite",
        curve.not_finite,
        limits["finite"],
        "symptom",
        "see weights_move_and_stay_finite and clipping_stops_explosions",
        unit="epochs",
        explained_by=("numeric", "learning_rate", "clipping"),
    )
    rise = Check(
        name="rise of the loss over the training, per loss of the first epoch",
        value=_rise(curve).value if judged else None,
        unit="",
        limit=limits["rise"],
        stage="symptom",
        rule="statistical",
        p_value=curve.p_of_rise if judged else None,
        missing=missing,
        by_training=True,
        repeat=evidence.rises_again,
        advice=("lower train.<model>.learning_rate; check the sign of the loss",),
    )
    rebound = Check(
        name="rise from the lowest epoch to the last, per fall",
        value=_rebound(curve).value if judged else None,
        unit="",
        limit=limits["rebound"],
        stage="symptom",
        rule="statistical",
        p_value=curve.p_of_rebound if judged else None,
        missing=missing,
        by_training=True,
        repeat=evidence.rebounds_again,
        advice=(
            "lower train.<model>.learning_rate, or clip gradients: the training diverged late",
        ),
    )
    return QUESTION.finding(evidence, finite, rise, rebound)


QUESTION = Question(
    id="loss_falls_each_epoch",
    number="X20",
    title="Does the recorded loss fall from epoch to epoch, without coming back up?",
    stages=("symptom",),
    mode="after_training",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
