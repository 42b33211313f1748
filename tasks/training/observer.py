"""What watches a training: it is told of steps and epochs, and never changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tasks.training.batches import Batch


@dataclass(frozen=True)
class RunStart:
    """What is known when a training starts or resumes.

    Attributes:
        model: the model being trained.
        num_parameters: trainable values.
        max_epochs: passes over the data at most.
        steps_per_epoch: optimiser steps of the coming epoch; later ones differ a little.
        resumed_step: optimiser steps already made; 0 for a new run.
        resumed_epoch: epochs already finished; 0 for a new run.
    """

    model: nn.Module
    num_parameters: int
    max_epochs: int
    steps_per_epoch: int
    resumed_step: int = 0
    resumed_epoch: int = 0


@dataclass(frozen=True)
class StepReport:
    """One optimiser step, after it was made.

    Attributes:
        step: steps made so far, this one included; the first is 1.
        epoch: epoch the step belongs to, from 1.
        loss: scalar on the training device, mean over the batch's valid positions.
        grad_norm: scalar on the training device, global norm before clipping.
        max_grad_norm: norm at which gradients are clipped.
        learning_rate: learning rate of the step.
        num_targets: valid positions in the batch.
    """

    step: int
    epoch: int
    loss: Tensor
    grad_norm: Tensor
    max_grad_norm: float
    learning_rate: float
    num_targets: int


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: epochs finished, this one included.
        step: optimiser steps made so far.
        values: numbers of the epoch by name: ``train/loss``, ``val/...``, ``learning_rate``,
            ``grad/norm_mean``, ``grad/clipped_share``, ``seconds``, ``tokens_per_second``.
        is_best: the monitored metric is the best so far.
    """

    epoch: int
    step: int
    values: Mapping[str, float]
    is_best: bool

    def as_row(self) -> dict[str, Any]:
        """One flat JSON object."""
        return {"epoch": self.epoch, "step": self.step, **self.values, "is_best": self.is_best}


class Observer:
    """Base of observers: every method does nothing unless overridden.

    Whatever an observer keeps across a kill goes through `state` and `load_state`, which are part
    of every checkpoint: after a resume it hears again of everything that came after that
    checkpoint, and must forget what it had already noted.
    """

    def on_start(self, start: RunStart) -> None:
        """The first step is about to be made; on a resume, `load_state` was called before."""

    def wants_step(self, step: int) -> bool:
        """Whether the three methods below are to be called for step number ``step``."""
        return False

    def on_step_start(self, model: nn.Module, batch: Batch, step: int) -> None:
        """The forward pass is about to begin."""

    def on_gradients(self, model: nn.Module, step: int) -> None:
        """Gradients are complete and not yet clipped; nothing may be changed."""

    def on_step(self, report: StepReport) -> None:
        """The step was made."""

    def on_epoch(self, report: EpochReport) -> None:
        """An epoch and its validation are done."""

    def on_finish(self, values: Mapping[str, Any]) -> None:
        """Training ended; ``values`` are those of `TrainingRecord.as_row`."""

    def state(self) -> dict[str, Any]:
        """What has to survive a kill, JSON-serialisable; all it covers is durable on return."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state returned by `state`."""
