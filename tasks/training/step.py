"""One optimiser step, and the parts a training is put together from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tasks.training.batches import Batch
from tasks.training.objective import Objective
from tasks.training.optimizer import clip_gradients, make_adamw
from tasks.training.plan import TrainingPlan


class BatchSource(Protocol):
    """Where batches come from: `WindowBatches`, or anything with these two methods."""

    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch, counted from 0."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number ``start`` on, the same at every call."""
        ...


class StepResult(NamedTuple):
    """What one step measured; scalars on the training device.

    Attributes:
        loss: mean over the valid positions, before the update.
        grad_norm: global gradient norm before clipping.
    """

    loss: Tensor
    grad_norm: Tensor


def make_optimizer(model: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW as the plan says."""
    return make_adamw(
        model,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        decay_embeddings=plan.decay_embeddings,
    )


def train_step(
    model: nn.Module,
    objective: Objective,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    plan: TrainingPlan,
    on_gradients: Callable[[], None] | None = None,
) -> StepResult:
    """Makes one optimiser step.

    On a CPU a step whose loss or gradient is not finite leaves the weights as they were.

    Args:
        model: trained in place.
        objective: see `tasks.training.objective`.
        batch: its seed also seeds dropout, so that noise depends on the batch alone.
        optimizer: with its learning rate already set.
        plan: for precision and clipping.
        on_gradients: called between the backward pass and clipping.
    """
    model.train()
    torch.manual_seed(batch.seed)
    optimizer.zero_grad(set_to_none=True)
    device = batch.item_ids.device.type
    with torch.autocast(device, torch.bfloat16, enabled=plan.precision == "bf16"):
        hidden, _ = model.encode(batch.item_ids, mask=batch.mask, times=batch.times)
        loss = objective(model, hidden, batch)
    may_look = device == "cpu"
    if may_look and not bool(loss.isfinite()):
        return StepResult(loss.detach(), loss.new_tensor(torch.nan))
    loss.backward()
    if on_gradients is not None:
        on_gradients()
    grad_norm = clip_gradients(model.parameters(), plan.max_grad_norm)
    if not may_look or bool(grad_norm.isfinite()):
        optimizer.step()
    return StepResult(loss.detach(), grad_norm)


@dataclass(frozen=True, kw_only=True)
class TrainingParts:
    """What is trained, on what, by which means. `dataclasses.replace` swaps single parts.

    Attributes:
        model: `SequenceRecommender`, or any module with its ``encode`` and ``head``.
        objective: the loss; see `tasks.training.objective`.
        batches: the training data.
        validate: metrics of the model on held-out data; called in eval mode without gradients.
        make_optimizer: builds the optimiser.
        step: makes one optimiser step; has `train_step`'s signature.
    """

    model: nn.Module
    objective: Objective
    batches: BatchSource
    validate: Callable[[nn.Module], Mapping[str, float]]
    make_optimizer: Callable[[nn.Module, TrainingPlan], torch.optim.Optimizer] = make_optimizer
    step: Callable[..., StepResult] = train_step
