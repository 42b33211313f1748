"""The training loop: it reads top to bottom in `train`, and every part of it can be swapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from tasks.training.checkpoint import CheckpointFolder
from tasks.training.clock import Clock
from tasks.training.observer import EpochReport, Observer, RunStart, StepReport
from tasks.training.optimizer import learning_rate_at, set_learning_rate
from tasks.training.plan import (
    StopReason,
    TrainingInterruptedError,
    TrainingPlan,
    TrainingRecord,
)
from tasks.training.resume import resume
from tasks.training.snapshot import Progress, capture, copy_weights, seed_everything
from tasks.training.step import TrainingParts
from tasks.training.unseen_losses import UnseenLosses

CPU_CHECK_EVERY = 1
"""Steps between two looks at the loss on a CPU, where a look costs nothing."""
GPU_CHECK_EVERY = 50
"""Steps between two looks at the loss on a GPU, where a look makes the host wait."""


def train(
    parts: TrainingParts,
    plan: TrainingPlan,
    *,
    observers: Sequence[Observer] = (),
    checkpoints: CheckpointFolder | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingRecord:
    """Trains until the budget is spent or validation stops improving; leaves the best weights.

    On one CPU thread the result depends on the arguments alone: observers, checkpoints and any
    number of kills and resumes change no bit of it.

    Args:
        parts: what is trained; the model is changed in place.
        plan: how.
        observers: told of steps and epochs.
        checkpoints: where to resume from and to write to; None keeps nothing.
        should_stop: asked after every step; True writes a checkpoint and stops.

    Raises:
        NonFiniteLossError: after writing the failed state to the checkpoint folder.
        TrainingInterruptedError: `should_stop` said so, after writing a checkpoint.
        ValueError: `plan.monitor` is no metric of `parts.validate`.
    """
    model, batches = parts.model, parts.batches
    device = next(model.parameters()).device
    seed_everything(plan.seed)
    optimizer = parts.make_optimizer(model, plan)
    progress = Progress()
    if checkpoints is not None:
        progress = resume(checkpoints, model, optimizer, observers)
    progress.sums = progress.sums.to(device)
    check_every = CPU_CHECK_EVERY if device.type == "cpu" else GPU_CHECK_EVERY
    clock = Clock(progress)

    def write(save_state: Callable[..., None]) -> None:
        clock.tick()
        save_state(progress.step, *capture(model, optimizer, progress, observers))

    def save_failure() -> str:
        if checkpoints is None:
            return "No checkpoint was asked for."
        write(checkpoints.save_failure)
        return f"The state is in {checkpoints.folder / 'failure.json'}."

    unseen = UnseenLosses(progress, save_failure)

    def save() -> None:
        unseen.look()  # what is resumed from has to be sound
        if checkpoints is not None:
            write(checkpoints.save)

    start = _start_of(model, plan, progress, batches.num_batches(progress.epoch))
    for observer in observers:
        observer.on_start(start)

    while (stop_reason := _stop_reason(progress, plan)) is None:
        num_batches = batches.num_batches(progress.epoch)
        for batch in batches.epoch(progress.epoch, start=progress.batch):
            learning_rate = _rate_of_next_step(progress, plan, num_batches)
            set_learning_rate(optimizer, learning_rate)
            step = progress.step + 1
            watching = [observer for observer in observers if observer.wants_step(step)]
            for observer in watching:
                observer.on_step_start(model, batch, step)
            result = parts.step(
                model,
                parts.objective,
                batch,
                optimizer,
                plan,
                partial(_tell_gradients, watching, model, step) if watching else None,
            )
            unseen.add(step, learning_rate, result)
            if len(unseen) >= check_every or progress.batch + 1 == num_batches:
                unseen.look()
            progress.step = step
            progress.batch += 1
            progress.num_targets += batch.num_targets
            progress.sums += torch.stack(
                [
                    result.loss.double() * batch.num_targets,
                    result.grad_norm.double(),
                    (result.grad_norm > plan.max_grad_norm).double(),
                ]
            )
            if watching:
                report = StepReport(
                    step=step,
                    epoch=progress.epoch + 1,
                    loss=result.loss,
                    grad_norm=result.grad_norm,
                    max_grad_norm=plan.max_grad_norm,
                    learning_rate=learning_rate,
                    num_targets=batch.num_targets,
                )
                for observer in watching:
                    observer.on_step(report)
            if step % plan.checkpoint_every_steps == 0:
                save()
            if should_stop():
                save()
                raise TrainingInterruptedError(
                    f"stopped at step {step} (epoch {progress.epoch + 1}); run the same command "
                    "again to resume." + ("" if checkpoints else " No checkpoint was asked for.")
                )
        clock.tick()
        train_seconds = progress.epoch_seconds
        with evaluating(model):
            metrics = dict(parts.validate(model))
        clock.tick()
        is_best = _monitored(metrics, plan.monitor) > progress.best_value
        if is_best:
            progress.best_value = metrics[plan.monitor]
            progress.best_epoch = progress.epoch + 1
            progress.best_weights = copy_weights(model)
        rate = optimizer.param_groups[0]["lr"]
        values = _values_of_epoch(progress, metrics, rate, num_batches, train_seconds)
        report = EpochReport(progress.epoch + 1, progress.step, values, is_best)
        progress.history.append(report.as_row())
        progress.begin_next_epoch()
        for observer in observers:
            observer.on_epoch(report)
        save()

    model.load_state_dict(progress.best_weights)
    clock.tick()
    record = _record_of(progress, stop_reason)
    for observer in observers:
        observer.on_finish(record.as_row())
    return record


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the mode the model was in comes back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _start_of(
    model: nn.Module, plan: TrainingPlan, progress: Progress, num_batches: int
) -> RunStart:
    return RunStart(
        model=model,
        num_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        max_epochs=plan.max_epochs,
        steps_per_epoch=num_batches,
        resumed_step=progress.step,
        resumed_epoch=progress.epoch,
    )


def _rate_of_next_step(progress: Progress, plan: TrainingPlan, num_batches: int) -> float:
    """The learning rate at this place of the schedule."""
    spent = (progress.epoch + progress.batch / num_batches) / plan.max_epochs
    return learning_rate_at(
        progress.step,
        spent,
        peak=plan.learning_rate,
        warmup_steps=plan.warmup_steps,
        schedule=plan.schedule,
        final_share=plan.final_learning_rate,
    )


def _values_of_epoch(
    progress: Progress,
    metrics: Mapping[str, float],
    learning_rate: float,
    num_batches: int,
    train_seconds: float,
) -> dict[str, float]:
    """The numbers of the epoch that just ended; ``train_seconds`` leave validation out."""
    loss_sum, norm_sum, clipped = progress.sums.tolist()
    return {
        "train/loss": loss_sum / progress.num_targets,
        **{f"val/{name}": value for name, value in metrics.items()},
        "learning_rate": learning_rate,
        "grad/norm_mean": norm_sum / num_batches,
        "grad/clipped_share": clipped / num_batches,
        "seconds": progress.epoch_seconds,
        "tokens_per_second": progress.num_targets / max(train_seconds, 1e-9),
    }


def _record_of(progress: Progress, stop_reason: StopReason) -> TrainingRecord:
    return TrainingRecord(
        best_epoch=progress.best_epoch,
        best_value=progress.best_value,
        stop_reason=stop_reason,
        num_epochs=progress.epoch,
        num_steps=progress.step,
        history=tuple(progress.history),
        wall_seconds=progress.wall_seconds,
        cpu_seconds=progress.cpu_seconds,
    )


def _stop_reason(progress: Progress, plan: TrainingPlan) -> StopReason | None:
    if progress.epoch - progress.best_epoch >= plan.patience:
        return "patience"
    return "max_epochs" if progress.epoch >= plan.max_epochs else None


def _monitored(metrics: dict[str, float], monitor: str) -> float:
    """The metric that decides."""
    if monitor not in metrics:
        raise ValueError(f"monitor is {monitor!r}; expected one of {', '.join(sorted(metrics))}.")
    if math.isnan(metrics[monitor]):
        raise ValueError(
            f"{monitor} is NaN; expected a number. Is there any validation example to rank?"
        )
    return metrics[monitor]


def _tell_gradients(watching: Sequence[Observer], model: nn.Module, step: int) -> None:
    for observer in watching:
        observer.on_gradients(model, step)
