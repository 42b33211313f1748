"""Did the training go on long enough for its result to mean something?"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.measurements import loss_curve, loss_outcome
from tasks.diagnostics.measurements.loss_curve import FEWEST_EPOCHS
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class TrainedOut:
    """A training is done when more of it would bring no more, or when it fits what it was shown.

    A model that fits its training targets better than transition counts fit unseen ones has
    learned enough to show skill, whether or not its loss still falls.
    """

    levelled: bool = quantity("the loss is level, or validation ended the training")
    fits_training: bool = quantity("training targets fit better than counts fit unseen ones")
    late_share: float | None = quantity("share of the fall made in the last quarter of epochs")

    @property
    def done(self) -> bool:
        """Its result can be judged."""
        return self.levelled or self.fits_training

    @property
    def missing(self) -> str:
        """What has to be done before its result can be judged."""
        if self.late_share is None:
            return f"`train/loss` of {FEWEST_EPOCHS} epochs in the records of the training"
        return (
            "a training that went on until its loss was level (raise train.shared.max_epochs): "
            f"the last quarter of the epochs made {self.late_share:.0%} of the fall"
        )


def measure(probe: Probe) -> TrainedOut:
    """Read the curve and compare the fit with counting."""
    try:
        curve = probe.evidence(loss_curve.measure)
    except NotMeasuredError:
        if probe.subject.trained is None:
            raise
        curve = None
    outcome = probe.evidence(loss_outcome.measure)
    beats_counts = outcome.trained < outcome.transitions < outcome.popularity
    return TrainedOut(
        levelled=curve is not None and curve.levelled,
        fits_training=beats_counts,
        late_share=None if curve is None else curve.late_share,
    )
