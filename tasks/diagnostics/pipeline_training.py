"""A whole training of a subject through the pipeline's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from tasks.diagnostics.subject import Batch, PreparedLog, Subject, Trained
from tasks.training.loop import train
from tasks.training.observer import EpochReport, Observer
from tasks.training.plan import TrainingPlan
from tasks.training.step import StepResult, TrainingParts


class _Batches:
    """The subject's batches behind the loop's protocol."""

    def __init__(self, subject: Subject, prepared: PreparedLog, seed: int) -> None:
        self._subject, self._prepared, self._seed = subject, prepared, seed
        self._kept: tuple[int, list[Batch]] | None = None

    def _epoch(self, epoch: int) -> list[Batch]:
        if self._kept is None or self._kept[0] != epoch:
            batches = self._subject.make_batches(self._prepared, self._seed, epoch)
            self._kept = (epoch, list(batches))
        return self._kept[1]

    def num_batches(self, epoch: int) -> int:
        return len(self._epoch(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield from self._epoch(epoch)[start:]


class _Curves(Observer):
    """Keeps every epoch's row and the weights of the last step."""

    def __init__(self, model: nn.Module) -> None:
        self.rows: list[dict[str, Any]] = []
        self.model = model
        self.last: dict[str, torch.Tensor] = {}

    def on_epoch(self, report: EpochReport) -> None:
        self.rows.append(report.as_row())
        self.last = {k: v.detach().clone() for k, v in self.model.state_dict().items()}


def train_subject(subject: Subject, seed: int, *, max_epochs: int | None = None) -> Trained:
    """Train a subject's model with the subject's own parts.

    Args:
        subject: With prepared data or a way to prepare them.
        seed: Of weights, batches and noise.
        max_epochs: Fewer epochs than declared.

    Raises:
        NonFiniteLossError: The loss or a gradient became NaN or infinite.
    """
    prepared = subject.prepared()
    subject = subject.replace(ready=prepared)
    model = subject.build_model(prepared.data.num_items, seed)
    rate = float(subject.make_optimizer(model).param_groups[0]["lr"])
    budget = subject.declared.max_epochs if max_epochs is None else max_epochs
    plan = TrainingPlan(
        max_epochs=budget,
        patience=budget,
        learning_rate=rate if rate > 0 else 1e-30,
        max_grad_norm=subject.declared.max_grad_norm or 1e30,
        warmup_steps=0,
        schedule="constant",
        seed=seed,
    )
    curves = _Curves(model)
    parts = TrainingParts(
        model=model,
        objective=subject.loss,
        batches=_Batches(subject, prepared, seed),
        validate=lambda given: _validation(subject, given),
        make_optimizer=lambda given, _: subject.make_optimizer(given),
        step=_stepper(subject),
    )
    record = train(parts, plan, observers=[curves])
    last = subject.build_model(prepared.data.num_items, seed)
    last.load_state_dict(curves.last)
    model.eval()
    return Trained(
        model=model,
        epochs=tuple(curves.rows),
        record=record.as_row(),
        metrics=subject.evaluate(subject, model, "test"),
        last_model=last.eval(),
    )


def _validation(subject: Subject, model: nn.Module) -> Mapping[str, float]:
    metrics = subject.evaluate(subject, model, "val")
    return {name.removeprefix("val/"): value for name, value in metrics.items()}


def _stepper(subject: Subject) -> Any:
    def step(model: nn.Module, loss: Any, batch: Batch, optimizer: Any, *_: Any) -> StepResult:
        norms: list[torch.Tensor] = []

        def note(opt: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            grads = [p.grad for g in opt.param_groups for p in g["params"] if p.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(grads) if grads else torch.zeros(()))

        handle = optimizer.register_step_pre_hook(note)
        try:
            value = subject.train_step(loss, model, optimizer, batch)
        finally:
            handle.remove()
        norm = norms[-1] if norms else torch.zeros(())
        return StepResult(value.detach(), norm.detach())

    return step
