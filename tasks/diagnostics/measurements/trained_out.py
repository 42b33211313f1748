"""Did the training go on long enough for its result to mean something?"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tasks.diagnostics.measurements import loss_curve, loss_outcome, simple_models
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.loss_curve import FEWEST_EPOCHS
from tasks.diagnostics.measurements.loss_outcome import chosen_batches
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class TrainedOut:
    """Whether a training learned what it was shown, or came to rest.

    A model that ranks its training targets better than transition counts rank unseen ones has
    learned enough to show skill; so has one whose recorded loss went below that of transition
    counts on unseen events. The weights of the last epoch count too: where validation has no skill,
    the ones kept may be of any epoch. A level loss alone says less: models rest at popularity's
    level for a while before they find any order.
    """

    fits_training: bool = quantity("training targets rank higher than counts rank unseen ones")
    training: float = quantity("NDCG of the model on training targets")
    counts: float = quantity("NDCG of transition counts on unseen training events")
    levelled: bool = quantity("the loss is level, or validation ended the training")
    late_share: float | None = quantity("share of the fall made in the last quarter of epochs")

    @property
    def missing(self) -> str:
        """What has to be done before its result can be judged."""
        if self.late_share is None:
            return f"`train/loss` of {FEWEST_EPOCHS} epochs in the records of the training"
        return (
            "a training that learns its own targets (raise train.shared.max_epochs): they rank at "
            f"NDCG {self.training:.3f}, counting ranks unseen ones at {self.counts:.3f}, and the "
            f"last quarter of the epochs made {self.late_share:.0%} of the loss's fall"
        )


def measure(probe: Probe) -> TrainedOut:
    """Rank training targets, and read the curve."""
    try:
        curve = probe.evidence(loss_curve.measure)
    except NotMeasuredError:
        if probe.subject.trained is None:
            raise
        curve = None
    simple = probe.evidence(simple_models.measure)
    training = _training_gain(probe, probe.model(trained=True))
    last = probe.subject.trained.last_model if probe.subject.trained else None
    if last is not None:
        training = max(training, _training_gain(probe, copy.deepcopy(last).eval()))
    outcome = probe.evidence(loss_outcome.measure)
    below = curve is not None and curve.last < outcome.transitions < outcome.popularity
    tells = simple.inner_transitions > simple.inner_popularity
    return TrainedOut(
        fits_training=tells and (below or training >= simple.inner_transitions),
        training=training,
        counts=simple.inner_transitions,
        levelled=curve is not None and curve.levelled,
        late_share=None if curve is None else curve.late_share,
    )


def _training_gain(probe: Probe, model: nn.Module) -> float:
    """Mean NDCG of a model on the targets of some training windows."""
    found = []
    with torch.no_grad():
        for batch in chosen_batches(probe):
            rows, columns = batch.asked.nonzero(as_tuple=True)
            scores = probe.logits(model, batch)[rows, columns, 1:]
            own = scores.gather(1, batch.targets[rows, columns][:, None] - 1)
            found.append(gains((scores >= own).sum(dim=1).numpy()))
    return float(np.concatenate(found).mean())
