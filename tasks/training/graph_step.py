"""Training steps on a GPU replayed as one CUDA graph: no launches, nothing for the host to do.

A graph repeats the same work on the same memory, so windows are padded to one shape: padding costs
and counts nothing in the loss, as in `tasks.training.fused_cross_entropy.seen_cross_entropy`. The
blocks do work on it, so that where few windows are as long as the longest, steps are not replayed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tasks.training.batches import Batch, WindowBatches
from tasks.training.capture import capturing
from tasks.training.objective import FullCrossEntropy, Objective
from tasks.training.optimizer import clip_gradients
from tasks.training.plan import TrainingPlan
from tasks.training.step import StepResult, train_step
from xlstm_model import SequenceRecommender

WARM_UP_STEPS = 3
"""Steps made one operation at a time before a graph is captured: they compile kernels and create
the optimiser's state."""
MOST_PADDED_PLACES = 50_000
MOST_PADDED_COLUMNS = 1_000
"""Padding of a mean step above which it costs more than launches. On an H100 at width 128 40,000
places in windows of 200 to 1,000 take 4 to 12 ms, and 4,000 columns more take recurrent models 27
(`benchmarks.history_cost`); a step that is not replayed takes 7 to 17 ms more than one that is
(`benchmarks.gpu_training`)."""


class GraphStep:
    """`train_step` as one replay of a CUDA graph.

    Steps that somebody watches, and the first ones, run one operation at a time. Where capturing
    fails all do, which is said once.

    Args:
        batch_size: windows of the largest batch.
        max_seq_len: pairs of the longest window.
    """

    def __init__(self, batch_size: int, max_seq_len: int) -> None:
        self._shape = (batch_size, max_seq_len)
        self._calls = 0
        self._captured: _Captured | None = None
        self._failed = False

    @staticmethod
    def pays(batches: WindowBatches) -> bool:
        """Whether padding to the longest window costs less than launching each operation."""
        rows, columns = batches.mean_shape(epoch=0)
        most = batches.batch_size * batches.longest_window
        return (
            most - rows * columns <= MOST_PADDED_PLACES
            and batches.longest_window - columns <= MOST_PADDED_COLUMNS
        )

    @staticmethod
    def fits(model: nn.Module, objective: Objective, batch_size: int, max_seq_len: int) -> bool:
        """Whether the model and the loss can be trained so, the loss by kernels alone."""
        return (
            isinstance(objective, FullCrossEntropy)
            and getattr(type(model), "encode", None) is SequenceRecommender.encode
            and getattr(model, "pooling", None) is None
            and objective.takes_padding(model, max_seq_len)
        )

    def __call__(
        self,
        model: nn.Module,
        objective: Objective,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        plan: TrainingPlan,
        on_gradients: Callable[[], None] | None = None,
    ) -> StepResult:
        """Makes one step; see `train_step`."""
        if self._failed:
            return train_step(model, objective, batch, optimizer, plan, on_gradients)
        is_warm = self._captured is not None or self._calls >= WARM_UP_STEPS
        if on_gradients is not None or not is_warm:
            self._calls += 1
            padded = pad_batch(batch, *self._shape)  # one shape: kernels are compiled once
            return train_step(model, objective, padded, optimizer, plan, on_gradients)
        if self._captured is None:
            model.train()
            try:
                self._captured = _Captured(self._shape, batch, model, objective, optimizer, plan)
            except RuntimeError as problem:
                self._failed = True
                warnings.warn(
                    "training steps run one operation at a time, as they could not be captured "
                    f"as a CUDA graph: {problem}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if self._captured is None:  # the error is gone, and what it held of the step
            return train_step(model, objective, batch, optimizer, plan)
        return self._captured.replay(batch, optimizer)

    def replay_alone(self) -> None:
        """Repeats the last step as it was, learning rate and noise too; for timing.

        Raises:
            ValueError: no step has been captured.
        """
        if self._captured is None:
            raise ValueError("no step has been captured; make one more than WARM_UP_STEPS first.")
        self._captured.graph.replay()


class _Captured:
    """One step's graph and the memory it reads."""

    def __init__(
        self,
        shape: tuple[int, int],
        batch: Batch,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        plan: TrainingPlan,
    ) -> None:
        device = batch.item_ids.device
        self._batch = pad_batch(batch, *shape)
        self._rate = torch.zeros((), device=device)
        self.graph = torch.cuda.CUDAGraph()
        before = [(group["lr"], group.get("capturable", False)) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"], group["capturable"] = self._rate, True
        optimizer.zero_grad(set_to_none=True)
        try:
            with capturing(self.graph):
                self._results = self._work(model, objective, optimizer, plan)
        finally:
            for group, (rate, capturable) in zip(optimizer.param_groups, before, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def _work(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        plan: TrainingPlan,
    ) -> Tensor:
        """The step's work, loss and gradient norm (2,)."""
        batch = self._batch
        with torch.autocast("cuda", torch.bfloat16, enabled=plan.precision == "bf16"):
            hidden, _ = model.encode(
                batch.item_ids, mask=batch.item_ids != 0, times=batch.times, only_real=True
            )
            loss = objective(model, hidden, batch)
        loss.backward()
        grad_norm = clip_gradients(model.parameters(), plan.max_grad_norm)
        optimizer.step()
        return torch.stack([loss.detach(), grad_norm])

    def replay(self, batch: Batch, optimizer: torch.optim.Optimizer) -> StepResult:
        """One step on a batch, at the optimiser's learning rate."""
        fill_batch(self._batch, batch)
        self._rate.fill_(optimizer.param_groups[0]["lr"])
        # The graph draws its noise from the generator as it stands at the replay.
        torch.manual_seed(batch.seed)
        self.graph.replay()
        loss, grad_norm = self._results.clone()
        return StepResult(loss, grad_norm)


def pad_batch(batch: Batch, batch_size: int, max_seq_len: int) -> Batch:
    """The batch in windows of one shape; every place is a position, with target 0 at padding.

    Args:
        batch: at most ``batch_size`` windows of at most ``max_seq_len`` pairs.
        batch_size: windows of the result.
        max_seq_len: width of the result.
    """
    empty = batch.item_ids.new_zeros(2, batch_size, max_seq_len)
    padded = Batch(
        item_ids=empty[0],
        targets=empty[1],
        mask=empty[0] != 0,
        positions=torch.arange(batch_size * max_seq_len, device=empty.device),
        users=batch.users.new_zeros(batch_size),
        times=None if batch.times is None else torch.zeros_like(empty[0]),
        seed=batch.seed,
    )
    fill_batch(padded, batch)
    padded.mask.copy_(padded.item_ids != 0)
    return padded


def fill_batch(padded: Batch, batch: Batch) -> None:
    """Puts items, targets and times of a batch into one of `pad_batch`, in place."""
    rows, width = batch.item_ids.shape
    pairs = [(padded.item_ids, batch.item_ids), (padded.targets, batch.targets)]
    if padded.times is not None:
        pairs.append((padded.times, batch.times))
    for target, values in pairs:
        if target.shape == values.shape:
            target.copy_(values)
        else:
            target.zero_()
            target[:rows, :width].copy_(values)
