"""Training over several processes, on one machine or many, started by ``torchrun``.

Every process builds the same model and the same batches and takes every n-th window of each batch;
gradients are summed over all, weighted so that the step is that of the whole batch. Without dropout
it equals a training in one process up to the order of sums; with dropout every process draws its
own noise. The first process alone validates, records, writes checkpoints and results.

    torchrun --standalone --nproc-per-node 2 -m tasks train --model xlstm --seed 0
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tasks.training.batches import Batch
from tasks.training.checkpoint import CheckpointFolder
from tasks.training.objective import Objective
from tasks.training.optimizer import clip_gradients
from tasks.training.plan import TrainingPlan
from tasks.training.step import StepResult, TrainingParts

STOP_EVERY = 16
"""Steps between two questions whether any process was told to stop."""


@dataclass(frozen=True)
class Group:
    """The processes of one training.

    Attributes:
        rank: number of this process, 0 for the first.
        size: processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0


@contextmanager
def join_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes ``torchrun`` started; a group of one where it did not.

    Args:
        device: the setting ``train.shared.device``; on GPUs every process takes its own.

    Raises:
        ValueError: there are more processes than GPUs on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(
                f"process {local} has no GPU of its own, this machine has {gpus}; start at most "
                f"{gpus} with --nproc-per-node, or set train.shared.device to cpu."
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def share_training(parts: TrainingParts, group: Group) -> TrainingParts:
    """Return parts that train one model together; unchanged in a group of one."""
    if group.size == 1:
        return parts
    for tensor in parts.model.state_dict().values():
        dist.broadcast(tensor, src=0)
    return replace(parts, step=SharedStep(group), validate=FirstValidates(parts.validate, group))


def shard(batch: Batch, rank: int, size: int) -> Batch | None:
    """Every ``size``-th window of a batch from number ``rank`` on; None where that is none.

    Args:
        batch: (B, S).
        rank: number of the process.
        size: processes.

    Returns:
        A batch of at most ceil(B / size) windows as wide as the whole batch, seeded by the batch
        and the process.
    """
    mask = batch.mask[rank::size]
    if len(mask) == 0:
        return None
    return Batch(
        item_ids=batch.item_ids[rank::size],
        targets=batch.targets[rank::size],
        mask=mask,
        positions=mask.flatten().nonzero().squeeze(1),
        users=batch.users[rank::size],
        times=None if batch.times is None else batch.times[rank::size],
        seed=(batch.seed + rank) % 2**63,
    )


class SharedStep:
    """`tasks.training.step.train_step` by all processes together."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._agreed = False

    def __call__(
        self,
        model: nn.Module,
        objective: Objective,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        plan: TrainingPlan,
        on_gradients: Callable[[], None] | None = None,
    ) -> StepResult:
        """Makes one step; the loss it returns is the whole batch's.

        Raises:
            RuntimeError: the processes are not at the same batch.
        """
        if not self._agreed:
            check_same_batch(batch, self.group)
            self._agreed = True
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = self._backward(model, objective, batch, plan)
        loss = sum_gradients(model, loss)
        if batch.item_ids.device.type == "cpu" and not bool(loss.isfinite()):
            return StepResult(loss, loss.new_tensor(torch.nan))
        if on_gradients is not None:
            on_gradients()
        grad_norm = clip_gradients(model.parameters(), plan.max_grad_norm)
        if batch.item_ids.device.type != "cpu" or bool(grad_norm.isfinite()):
            optimizer.step()
        return StepResult(loss, grad_norm)

    def _backward(
        self, model: nn.Module, objective: Objective, batch: Batch, plan: TrainingPlan
    ) -> Tensor:
        """Gradients of this process's part of the mean; returns that part of the loss."""
        own = shard(batch, self.group.rank, self.group.size)
        device = batch.item_ids.device
        if own is None:
            return torch.zeros((), device=device)
        torch.manual_seed(own.seed)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            hidden, _ = model.encode(own.item_ids, mask=own.mask, times=own.times)
            loss = objective(model, hidden, own)
        loss = loss * (own.num_targets / batch.num_targets)
        loss.backward()
        return loss.detach().float()


def check_same_batch(batch: Batch, group: Group) -> None:
    """Make sure that all processes begin, or resume, at the same batch.

    Raises:
        RuntimeError: they do not.
    """
    seeds: list[Any] = [None] * group.size
    dist.all_gather_object(seeds, batch.seed)
    if len(set(seeds)) > 1:
        raise RuntimeError(
            f"the {group.size} processes resumed at different steps, as the newest checkpoint was "
            "not readable for all; remove the training's folder below .assay/checkpoints and "
            "start again."
        )


def sum_gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Add up the gradients of all processes, in place, and return the summed loss.

    A parameter without a gradient in some process counts as 0 there.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([loss.reshape(1), *(piece.flatten().float() for piece in pieces)])
    dist.all_reduce(flat)
    start = 1
    for parameter in trained:
        count = parameter.numel()
        summed = flat[start : start + count].view_as(parameter)
        parameter.grad = summed.to(parameter.dtype)
        start += count
    return flat[0]


@dataclass(frozen=True)
class FirstValidates:
    """The first process validates and tells the others, so that all stop at the same epoch."""

    validate: Callable[[nn.Module], Mapping[str, float]]
    group: Group

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the first process, in every process."""
        told: list[Any] = [dict(self.validate(model)) if self.group.is_first else None]
        dist.broadcast_object_list(told, src=0)
        return told[0]


class AnyStops:
    """Asks all processes every few steps whether any was told to stop: all stop at once.

    Args:
        should_stop: whether this process was told.
        device: where the processes can talk.
    """

    def __init__(self, should_stop: Callable[[], bool], device: torch.device) -> None:
        self._should_stop = should_stop
        self._device = device
        self._asked = 0

    def __call__(self) -> bool:
        """Whether to stop now; the same answer in every process."""
        self._asked += 1
        if self._asked % STOP_EVERY:
            return False
        told = torch.tensor(float(self._should_stop()), device=self._device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told)


class ReadOnlyCheckpoints(CheckpointFolder):
    """What processes other than the first resume from; they write nothing."""

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Writes nothing."""
        return self.folder

    def save_failure(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Writes nothing."""
        return self.folder

    def discard(self, step: int) -> None:
        """Removes nothing."""
