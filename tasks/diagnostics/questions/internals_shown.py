"""G23. Do the records of a training show its insides: all of them, of this run, and truly?

Reads: the rows per epoch and per recorded step, the record of the run, and the model and data they
should belong to.

Rule: every promised quantity is there (loss, rate, validation; per step gradient norm, updates, and
gates where the model has any); none of those that move with the weights stands still; epochs are
numbered one by one; parameters, data, epochs and steps are those of this run; the norm of all
gradients is that of its groups, a step is called clipped exactly where its norm is above the limit,
and norms are those from before clipping; an epoch's loss lies near its steps', no two epochs have
one loss, and the loss of the weights kept from an epoch lies between its own and the next one's.

Limits: zero, but for three: a raw norm equals the clipping limit to four digits in next to no step,
so a fifth of them shows norms from after clipping; half of the epochs with a loss farther from
their recorded steps' range than that range is wide; a tenth of the whole fall of the loss for the
weights' way through an epoch and for noise.

The same picture from elsewhere: a training that does not move (`gradients_flow`) has frozen curves
too.

It can't tell: whether anyone looks at them.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import training_records
from tasks.diagnostics.measurements.recorded_loss import SLACK
from tasks.diagnostics.measurements.training_records import TrainingRecords
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "count": Limit(0, "identity of what is promised, and of one run"),
    "at_limit": Limit(0.2, "a raw norm equals the limit to four digits in next to no step"),
    "apart": Limit(0.5, "an epoch's loss is the mean of its steps'"),
    "outside": Limit(SLACK, "an epoch's weights lie between its steps and the next one's"),
}
NO_STEPS = "a record of single steps (steps.jsonl)"


def measure(probe: Probe) -> TrainingRecords:
    """Read the rows."""
    return probe.evidence(training_records.measure)


def judge(evidence: TrainingRecords, limits: Limits) -> Finding:
    """All there, of this run, consistent."""
    return QUESTION.finding(
        evidence,
        *_promised(evidence, limits),
        *_of_this_run(evidence, limits),
        *_single_steps(evidence, limits),
        *_near(evidence, limits),
    )


def _promised(evidence: TrainingRecords, limits: Limits) -> list[Check]:
    """Every promised quantity is there and moves."""
    steps = evidence.steps
    return [
        _counted(
            "number of promised quantities missing from the epochs",
            evidence.absent,
            limits,
            "record them in the observer of the training (tasks/training/record.py)",
            evidence.first_absent,
        ),
        _counted(
            "number of promised quantities missing from the steps",
            steps.absent if steps else None,
            limits,
            "record them in the observer of the training (tasks/training/record.py)",
            steps.first_absent if steps else "",
        ),
        _counted(
            "number of curves that never move",
            evidence.frozen + (steps.frozen if steps else 0),
            limits,
            "record the value of each step and epoch, not that of the first",
            evidence.first_frozen or (steps.first_frozen if steps else ""),
        ),
    ]


def _of_this_run(evidence: TrainingRecords, limits: Limits) -> list[Check]:
    """Epochs are numbered one by one, each with its own loss, and belong to this training."""
    return [
        _counted(
            "number of epochs with the loss of the one before, to the last digit",
            evidence.repeated,
            limits,
            "record an epoch's own loss, after its last step",
        ),
        _counted(
            "number of epochs that do not follow the one before",
            evidence.misnumbered,
            limits,
            "cut the records back to the checkpoint when a training resumes",
        ),
        _counted(
            "number of facts that belong to another run",
            evidence.foreign,
            limits,
            "write records anew with every training",
            evidence.first_foreign,
        ),
    ]


def _single_steps(evidence: TrainingRecords, limits: Limits) -> list[Check]:
    """What a step records is finite and agrees with itself."""
    steps = evidence.steps
    return [
        _counted(
            "number of recorded values that are not finite",
            steps.not_finite if steps else None,
            limits,
            "see weights_move_and_stay_finite",
        ),
        _counted(
            "number of steps whose gradient norm is not that of its groups",
            steps.wrong_sums if steps else None,
            limits,
            "measure the norm and its parts at the same moment",
        ),
        _counted(
            "number of steps called clipped that were not, or the other way round",
            steps.wrong_flags if steps else None,
            limits,
            "compare the norm from before clipping with train.shared.max_grad_norm",
        ),
    ]


def _counted(name: str, value: float | None, limits: Limits, advice: str, where: str = "") -> Check:
    return exact(
        name,
        value,
        limits["count"],
        "monitoring",
        advice,
        where=where,
        missing=NO_STEPS,
        explained_by=("optimiser", "gradient_flow", "learning_rate", "numeric"),
    )


def _near(evidence: TrainingRecords, limits: Limits) -> tuple[Check, Check, Check]:
    steps, kept = evidence.steps, evidence.loss
    at_limit = exact(
        "share of steps whose recorded norm is the clipping limit itself",
        steps.at_limit if steps else None,
        limits["at_limit"],
        "monitoring",
        "record the norm before clipping",
        unit="of steps",
        missing=NO_STEPS,
    )
    apart = Check(
        name="share of epochs whose loss is far from that of their recorded steps",
        value=evidence.apart,
        unit="of epochs",
        limit=limits["apart"],
        stage="monitoring",
        rule="oracle",
        missing="epochs with several recorded steps",
        essential=False,
        advice=("record the mean over the epoch's targets",),
    )
    weights = Check(
        name="distance of the kept weights' loss from the epochs it should lie between, in falls",
        value=kept.outside if kept else None,
        unit="of the whole fall of the loss",
        limit=limits["outside"],
        stage="monitoring",
        rule="oracle",
        missing="epochs with a loss, and which of them the weights are from",
        essential=False,
        where=f"recorded {kept.recorded:.4g}, then {kept.following:.4g}, found {kept.found:.4g}"
        if kept
        else "",
        explained_by=(
            *("optimiser", "gradient_flow", "learning_rate", "numeric", "stochastic", "state"),
            *("inference", "metric", "split", "loss", "regularisation", "batching"),
        ),
        advice=("record the mean of this epoch's losses, over the targets they were computed on",),
    )
    return at_limit, apart, weights


QUESTION = Question(
    id="internals_shown",
    number="G23",
    title="Do the records of a training show its insides: all of them, of this run, and truly?",
    stages=("monitoring",),
    mode="after_training",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
