"""Faults of single optimiser steps: which gradient arrives, what the optimiser makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks

Optimizer = torch.optim.Optimizer
Plant = Callable[[Subject], Subject]


def _written(change: Callable[..., Tensor]) -> Plant:
    """Let `change(loss, model, optimizer, batch, max_grad_norm)` be the step."""

    def plant(subject: Subject) -> Subject:
        limit = subject.declared.max_grad_norm

        def step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
            model.train()
            torch.manual_seed(batch.seed)
            return change(loss, model, optimizer, batch, limit)

        return subject.replace(train_step=step)

    return plant


def _gradients(change: Callable[[nn.Module], None]) -> Plant:
    """Change gradients between backward pass and clipping."""

    def step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        change(model)
        clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        return value.detach()

    return _written(step)


def _after(change: Callable[[nn.Module, Optimizer], object]) -> Plant:
    """Do something after every step."""

    def plant(subject: Subject) -> Subject:
        own = subject.train_step

        def step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
            value = own(loss, model, optimizer, batch)
            change(model, optimizer)
            return value

        return subject.replace(train_step=step)

    return plant


def _optimizer(**fields: Any) -> Plant:
    """Build the optimiser with other values; a function makes a value of the right one."""

    def plant(subject: Subject) -> Subject:
        own = subject.make_optimizer

        def make(model: nn.Module) -> Optimizer:
            optimizer = own(model)
            for group in optimizer.param_groups:
                for name, value in fields.items():
                    group[name] = value(group[name]) if callable(value) else value
            return optimizer

        return subject.replace(make_optimizer=make)

    return plant


def _negate_core(model: nn.Module) -> None:
    for parameter in model.sequence_model.parameters():
        if parameter.grad is not None:
            parameter.grad.neg_()


def _drop_core(model: nn.Module) -> None:
    for parameter in model.sequence_model.parameters():
        parameter.grad = None


def _signs(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.copy_(1e-3 * parameter.grad.sign())


def _before_backward(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    value = loss(model, batch)
    optimizer.step()
    optimizer.zero_grad()
    value.backward()
    clip_grad_norm_(model.parameters(), limit)
    return value.detach()


def _copy_back(model: nn.Module, optimizer: Optimizer) -> None:
    weight = max(model.sequence_model.parameters(), key=torch.Tensor.numel)
    kept = model.__dict__.setdefault("_kept", weight.detach().clone())
    weight.data.copy_(kept)


def _freeze_after_five(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.steps_made = getattr(optimizer, "steps_made", 0) + 1
    if optimizer.steps_made == 5:
        for parameter in model.sequence_model.parameters():
            parameter.requires_grad_(False)


def _halve_rate(model: nn.Module, optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] /= 2


def _fault(id: str, title: str, expected: str, stages: str, apply: Plant) -> Fault:
    where = at(*stages.split())
    return Fault(id, title, "training", "class of bugs", asks(expected), where, apply)


FAULTS = (
    _fault(
        "maximised",
        "the optimiser maximises the loss",
        "G15 G17 X14",
        "optimiser learning_rate",
        _optimizer(maximize=True),
    ),
    _fault(
        "rate_tenfold",
        "the optimiser's learning rate is ten times the declared one",
        "G17 X14 G19",
        "learning_rate regularisation",
        _optimizer(lr=lambda rate: 10 * rate),
    ),
    _fault(
        "core_gradient_negated",
        "the gradient of the sequence model has the wrong sign",
        "G15",
        "optimiser gradient_flow",
        _gradients(_negate_core),
    ),
    _fault(
        "core_gradient_cleared",
        "the gradient of the sequence model is cleared before the step",
        "G15 X14",
        "optimiser gradient_flow learning_rate",
        _gradients(_drop_core),
    ),
    _fault(
        "gradient_signs",
        "gradients are replaced by their signs",
        "G15 G16",
        "optimiser clipping",
        _gradients(_signs),
    ),
    _fault(
        "step_before_backward",
        "the optimiser steps before the backward pass",
        "G15",
        "optimiser",
        _written(_before_backward),
    ),
    _fault(
        "two_steps_per_batch",
        "the optimiser steps twice with one gradient",
        "G15",
        "optimiser",
        _after(lambda model, optimizer: optimizer.step()),
    ),
    _fault(
        "moments_cleared",
        "the optimiser's moments are cleared after every step",
        "G15 G17 X14",
        "optimiser learning_rate",
        _after(lambda model, optimizer: optimizer.state.clear()),
    ),
    _fault(
        "matrix_copied_back",
        "one matrix is copied back after every step but the first",
        "G15 G22 X14",
        "optimiser",
        _after(_copy_back),
    ),
    _fault(
        "core_frozen_later",
        "the sequence model is frozen after five steps",
        "G15 G22 X14 G23",
        "optimiser gradient_flow learning_rate",
        _after(_freeze_after_five),
    ),
    _fault(
        "rate_halved",
        "a decay meant per epoch halves the rate at every step",
        "G17 X14",
        "learning_rate",
        _after(_halve_rate),
    ),
)
