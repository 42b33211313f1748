"""What a training is told, what it leaves, and how it can fail."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.training.optimizer import Schedule

StopReason = Literal["patience", "max_epochs"]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train.

    Attributes:
        max_epochs: passes over the data at most.
        patience: epochs without a better ``monitor`` before training stops.
        monitor: key of the validation metrics that decides; larger is better.
        learning_rate: peak learning rate.
        weight_decay: AdamW's decoupled decay on matrices.
        decay_embeddings: whether embedding tables are decayed too.
        warmup_steps: steps of linear warm-up.
        schedule: learning rate after warm-up; the cosine ends at ``max_epochs``.
        final_learning_rate: end of the cosine, as a share of the peak.
        max_grad_norm: global norm gradients are scaled down to.
        precision: arithmetic of the forward pass; ``bf16`` is autocast.
        seed: seeds every random number generator; batches carry seeds of their own.
        checkpoint_every_steps: steps between two checkpoints inside an epoch.
    """

    max_epochs: int
    patience: int = 6
    monitor: str = "ndcg_at_10"
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    decay_embeddings: bool = False
    warmup_steps: int = 50
    schedule: Schedule = "cosine"
    final_learning_rate: float = 0.1
    max_grad_norm: float = 1.0
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    checkpoint_every_steps: int = 200

    def __post_init__(self) -> None:
        for name in ("max_epochs", "patience", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0.")


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a training did.

    Attributes:
        best_epoch: epoch (from 1) whose weights the model has now.
        best_value: monitored metric of that epoch.
        stop_reason: why training ended.
        num_epochs, num_steps: what was done.
        history: one row per epoch, as in `EpochReport.as_row`.
        wall_seconds, cpu_seconds: time spent, across resumes.
    """

    best_epoch: int
    best_value: float
    stop_reason: StopReason
    num_epochs: int
    num_steps: int
    history: tuple[dict[str, Any], ...]
    wall_seconds: float
    cpu_seconds: float

    def as_row(self) -> dict[str, Any]:
        """All but the history, JSON-serialisable."""
        return {name: value for name, value in asdict(self).items() if name != "history"}


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient norm became NaN or infinite.

    Attributes:
        step: step (from 1) it happened in.
        learning_rate: learning rate of that step.
        last_finite_loss: loss of the last sound step; NaN if there was none.
    """

    exit_code = 2
    """The settings or the data are at fault; the same again would end the same."""

    def __init__(
        self, quantity: str, step: int, learning_rate: float, last_finite_loss: float, saved: str
    ) -> None:
        super().__init__(
            f"the {quantity} is not finite at step {step} (learning rate {learning_rate:.3g}, "
            f"last finite loss {last_finite_loss:.4g}). {saved} Lower the learning rate or "
            "train.shared.max_grad_norm, or look for NaN in the weights of that checkpoint."
        )
        self.step = step
        self.learning_rate = learning_rate
        self.last_finite_loss = last_finite_loss


class TrainingInterruptedError(KeyboardInterrupt):
    """Training was asked to stop; what was done is in a checkpoint.

    Like Ctrl-C no error, so that it passes by whatever handles errors.
    """
