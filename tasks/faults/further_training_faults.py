"""Further faults of the optimiser step, and of what regularises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_modules, first_embedding

Optimizer = torch.optim.Optimizer
Step = Callable[[Any, nn.Module, Optimizer, Batch, float], Tensor]


def _step(change: Step) -> Callable[[Subject], Subject]:
    def plant(subject: Subject) -> Subject:
        limit = subject.declared.max_grad_norm

        def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
            model.train()
            torch.manual_seed(batch.seed)
            return change(loss, model, optimizer, batch, limit)

        return subject.replace(train_step=train_step)

    return plant


def _backward(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
    optimizer.zero_grad()
    value = loss(model, batch)
    value.backward()
    return value.detach()


def _clipped_by_value(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    value = _backward(loss, model, optimizer, batch)
    clip_grad_value_(model.parameters(), limit)
    optimizer.step()
    return value


def _reset_too_late(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    value = loss(model, batch)
    value.backward()
    clip_grad_norm_(model.parameters(), limit)
    optimizer.zero_grad()
    optimizer.step()
    return value.detach()


def _every_second_batch(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    value = _backward(loss, model, optimizer, batch)
    clip_grad_norm_(model.parameters(), limit)
    optimizer.passed = getattr(optimizer, "passed", 0) + 1
    if optimizer.passed % 2 == 0:
        optimizer.step()
    return value


def _rate_grows(subject: Subject) -> Subject:
    step = subject.train_step

    def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
        optimizer.made = getattr(optimizer, "made", -1) + 1
        for group in optimizer.param_groups:
            group["lr"] *= 1.3 ** min(optimizer.made, 60)
        return step(loss, model, optimizer, batch)

    return subject.replace(train_step=train_step)


def _adamw(subject: Subject, groups: Any, **more: float) -> Optimizer:
    said = subject.declared
    settings = {"lr": said.learning_rate, "weight_decay": said.weight_decay, **more}
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), **settings)


def _core_stands_still(subject: Subject) -> Subject:
    def make(model: nn.Module) -> Optimizer:
        core = {id(p) for p in model.sequence_model.parameters()}
        rest = [p for p in model.parameters() if id(p) not in core]
        slow = {"params": list(model.sequence_model.parameters()), "lr": 1e-9}
        return _adamw(subject, [{"params": rest}, slow])

    return subject.replace(make_optimizer=make)


def _damped(subject: Subject) -> Subject:
    return subject.replace(make_optimizer=lambda m: _adamw(subject, m.parameters(), eps=10.0))


def _embedding_gradient_scaled(subject: Subject) -> Subject:
    make = subject.make_optimizer

    def make_wrongly(model: nn.Module) -> Optimizer:
        first_embedding(model).weight.register_hook(lambda gradient: gradient * 100)
        return make(model)

    return subject.replace(make_optimizer=make_wrongly)


class _DropsTwice:
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(super().forward(x))


def _of(
    id: str, title: str, numbers: str, stages: frozenset[str], apply: Any, **more: Any
) -> Fault:
    source = more.pop("source", "mutation of a training loop")
    return Fault(id, title, "training", source, asks(numbers), stages, apply, **more)


LOOSE = {"max_grad_norm": 0.1}

FAULTS = (
    _of(
        "clip_by_value",
        "gradients are clipped by value although a norm was declared",
        "G16 X15",
        at("clipping"),
        _step(_clipped_by_value),
        needs=LOOSE,
    ),
    _of(
        "reset_before_step",
        "gradients are reset between backward pass and step",
        "G15 G22 G10",
        at("optimiser", "gradient_flow"),
        _step(_reset_too_late),
    ),
    _of(
        "every_second_step",
        "every second batch is passed over by the optimiser",
        "G15 G17 G22",
        at("optimiser", "gradient_flow", "learning_rate"),
        _step(_every_second_batch),
    ),
    _of(
        "rate_grows",
        "a schedule raises the rate by 30 % at every step",
        "G17 X14 G22 G20 X20",
        at("learning_rate", "numeric", "symptom"),
        _rate_grows,
        effort="after_training",
    ),
    _of(
        "core_stands_still",
        "the sequence model's group has a rate of 1e-9",
        "G17 X14 G15",
        at("learning_rate", "optimiser"),
        _core_stands_still,
    ),
    _of(
        "steps_damped",
        "Adam's epsilon is 10, so that steps are next to nothing",
        "G17 X14",
        at("learning_rate", "optimiser"),
        _damped,
    ),
    _of(
        "embedding_gradient_scaled",
        "a hook multiplies the embedding's gradient by 100",
        "G15",
        at("gradient_flow", "optimiser"),
        _embedding_gradient_scaled,
    ),
    _of(
        "dropout_twice",
        "dropout is applied two times",
        "G19",
        at("regularisation"),
        lambda subject: change_modules(subject, nn.Dropout, _DropsTwice),
    ),
)
"""Found by changing the pipeline the way people change training loops."""
