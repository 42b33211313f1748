"""X20. Does the recorded loss fall from epoch to epoch, without coming back up?

Reads: `train/loss` per epoch.

Rule: every epoch's loss is finite; the loss does not rise over the training (Theil-Sen slope with
Mann-Kendall's test of trend); the epochs after the lowest one have not given back half of what
training gained (the same test on those epochs).

Limits: a rise of 2 % of the first loss over the whole training is the floor below which a trend is
no matter. Half of the fall: noise between epochs of healthy trainings measured below a tenth.
A fall of less than 5 % of the first loss counts as 5 %, so that noise on a flat curve is not called
a rebound.

The same picture from elsewhere: a loss recorded wrongly (`internals_shown`); a learning rate that
is too large (`learning_rate_suits`).

It can't tell: whether the loss is low enough (`loss_falls`), nor why it rises.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import loss_curve
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


def measure(probe: Probe) -> LossCurve:
    """Read the curve."""
    return probe.evidence(loss_curve.measure)


def judge(evidence: LossCurve, limits: Limits) -> Finding:
    """Finite, falling, staying down."""
    long_enough = evidence.num_epochs - evidence.not_finite >= FEWEST_EPOCHS
    missing = (
        f"{FEWEST_EPOCHS} epochs with a loss; there are {evidence.num_epochs} "
        "(raise train.shared.max_epochs, then `assay run`)"
    )
    scale = max(abs(evidence.first), 1e-12)
    fall = max(evidence.first - evidence.lowest, SMALL_FALL * scale)
    finite = exact(
        "number of epochs whose loss is not finite",
        evidence.not_finite,
        limits["finite"],
        "symptom",
        "see weights_move_and_stay_finite and clipping_stops_explosions",
        unit="epochs",
        explained_by=("numeric", "learning_rate", "clipping"),
    )
    rise = Check(
        name="rise of the loss over the training, per loss of the first epoch",
        value=evidence.slope * (evidence.num_epochs - 1) / scale if long_enough else None,
        unit="",
        limit=limits["rise"],
        stage="symptom",
        rule="statistical",
        p_value=evidence.p_of_rise if long_enough else None,
        missing=missing,
        advice=("lower train.<model>.learning_rate; check the sign of the loss",),
    )
    rebound = Check(
        name="rise from the lowest epoch to the last, per fall",
        value=(evidence.last - evidence.lowest) / fall if long_enough else None,
        unit="",
        limit=limits["rebound"],
        stage="symptom",
        rule="statistical",
        p_value=evidence.p_of_rebound if long_enough else None,
        missing=missing,
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
