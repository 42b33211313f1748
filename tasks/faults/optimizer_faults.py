"""Faults of the optimiser, of a training step, and of clipping and regularisation in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_modules, first_embedding, redeclare

Optimizer = torch.optim.Optimizer
UNTIED = {"tied": False}


def _step(
    change: Callable[[Any, nn.Module, Optimizer, Batch, float], Tensor],
) -> Callable[[Subject], Subject]:
    """Let `change(loss, model, optimizer, batch, max_grad_norm)` be the training step."""

    def plant(subject: Subject) -> Subject:
        limit = subject.declared.max_grad_norm

        def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
            model.train()
            torch.manual_seed(batch.seed)
            return change(loss, model, optimizer, batch, limit)

        return subject.replace(train_step=train_step)

    return plant


def _update(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    value = loss(model, batch)
    value.backward()
    clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return value.detach()


def _unclipped(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    optimizer.zero_grad()
    value = loss(model, batch)
    value.backward()
    optimizer.step()
    return value.detach()


def _clipped_to_nothing(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    optimizer.zero_grad()
    return _update(loss, model, optimizer, batch, 1e-5)


def _no_backward(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    optimizer.zero_grad()
    value = loss(model, batch)
    optimizer.step()
    return value.detach()


def _in_eval_mode(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    model.eval()
    optimizer.zero_grad()
    return _update(loss, model, optimizer, batch, limit)


def _four_parts_summed(
    loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch, limit: float
) -> Tensor:
    optimizer.zero_grad()
    values = []
    for rows in torch.arange(len(batch.item_ids)).tensor_split(4):
        if len(rows):
            value = loss(model, batch.rows(rows))
            value.backward()
            values.append(value.detach())
    clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return torch.stack(values).mean()


def _no_more_after_three(subject: Subject) -> Subject:
    step = subject.train_step

    def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
        made = getattr(optimizer, "scheduled_steps", 0)
        optimizer.scheduled_steps = made + 1
        for group in optimizer.param_groups:
            group["lr"] *= float(made < 3)
        return step(loss, model, optimizer, batch)

    return subject.replace(train_step=train_step)


def _decayed_per_step(subject: Subject) -> Subject:
    step = subject.train_step

    def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
        made = getattr(optimizer, "scheduled_steps", 0)
        optimizer.scheduled_steps = made + 1
        # Meant per epoch.
        for group in optimizer.param_groups:
            group["lr"] *= 0.7**made
        return step(loss, model, optimizer, batch)

    return subject.replace(train_step=train_step)


def _optimizer(
    make: Callable[[Subject, nn.Module], Optimizer],
) -> Callable[[Subject], Subject]:
    return lambda subject: subject.replace(make_optimizer=lambda model: make(subject, model))


def _adamw(subject: Subject, parameters: Any, **more: float) -> Optimizer:
    declared = subject.declared
    settings = {"lr": declared.learning_rate, "weight_decay": declared.weight_decay, **more}
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), **settings)


def _sgd(subject: Subject) -> Subject:
    rate = subject.declared.learning_rate / 100
    other = redeclare(subject, learning_rate=rate, weight_decay=0.0)
    return other.replace(make_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=rate))


class _NoDropout(nn.Dropout):
    """A dropout layer whose result is not used."""

    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        return x


FAULTS = (
    Fault(
        id="no_zero_grad",
        title="gradients are never reset",
        layer="training",
        source="training loops without zero_grad",
        expected=asks("G15 G17"),
        stages=at("optimiser"),
        apply=_step(_update),
    ),
    Fault(
        id="opt_only_head",
        title="the optimiser has only the output matrix",
        layer="training",
        source="torcheck, parameters that never change",
        expected=asks("G15 G10"),
        stages=at("optimiser"),
        apply=_optimizer(lambda subject, model: _adamw(subject, [model.output_weight])),
        needs=UNTIED,
    ),
    Fault(
        id="opt_stale_copy",
        title="the optimiser holds the parameters of a copy of the model",
        layer="training",
        source="accelerate 2665 (TrainCheck)",
        expected=asks("G15 G22"),
        stages=at("optimiser"),
        apply=_optimizer(lambda subject, model: _adamw(subject, copy.deepcopy(model).parameters())),
    ),
    Fault(
        id="opt_misses_emb",
        title="the item embedding is missing from the optimiser",
        layer="training",
        source="parameter groups written by hand",
        expected=asks("G10 X12 G15"),
        stages=at("optimiser"),
        apply=_optimizer(
            lambda subject, model: _adamw(
                subject,
                [p for p in model.parameters() if p is not first_embedding(model).weight],
            )
        ),
        needs=UNTIED,
    ),
    Fault(
        id="step_no_backward",
        title="the backward pass is missing",
        layer="training",
        source="TrainCheck, steps without gradients",
        expected=asks("G15 G22"),
        stages=at("gradient_flow", "optimiser"),
        apply=_step(_no_backward),
    ),
    Fault(
        id="clip_missing",
        title="gradients are not clipped although it is declared",
        layer="training",
        source="DeepCrime, change of gradient clipping",
        expected=asks("G16 X15"),
        stages=at("clipping"),
        apply=_step(_unclipped),
    ),
    Fault(
        id="clip_tiny",
        title="gradients are clipped to 1e-5 whatever is declared",
        layer="training",
        source="DeepCrime, change of gradient clipping; DEForm",
        expected=asks("G16 X15"),
        stages=at("clipping"),
        apply=_step(_clipped_to_nothing),
    ),
    Fault(
        id="wd_ignored",
        title="the declared weight decay does not reach the optimiser",
        layer="training",
        source="DeepCrime, removed weight regularisation",
        expected=asks("G19"),
        stages=at("regularisation"),
        apply=_optimizer(
            lambda subject, model: _adamw(subject, model.parameters(), weight_decay=0.0)
        ),
    ),
    Fault(
        id="dropout_never",
        title="dropout is declared and its result not used",
        layer="training",
        source="DeepCrime, change of dropout rate",
        expected=asks("G19"),
        stages=at("regularisation"),
        apply=lambda subject: change_modules(subject, nn.Dropout, _NoDropout),
    ),
    Fault(
        id="always_eval",
        title="the model is in eval mode while it is trained",
        layer="training",
        source="TheDeepChecker, switch of mode",
        expected=asks("G19"),
        stages=at("regularisation"),
        apply=_step(_in_eval_mode),
    ),
    Fault(
        id="accumulation_not_divided",
        title="gradients of four parts of a batch are summed instead of averaged",
        layer="training",
        source="TrainCheck; gradient accumulation without division",
        expected=asks("G17 G15"),
        stages=at("optimiser", "learning_rate", "loss"),
        apply=_step(_four_parts_summed),
    ),
    Fault(
        id="wrong_optimizer",
        title="plain gradient descent at a hundredth of the learning rate",
        layer="training",
        source="DeepCrime, change of optimiser",
        expected=asks("G17 X14"),
        stages=at("learning_rate"),
        apply=_sgd,
        effort="deep",
    ),
    Fault(
        id="lr_to_zero",
        title="a schedule inside the step sets the learning rate to 0 after three steps",
        layer="training",
        source="schedulers stepped at the wrong place",
        expected=asks("G17 G20 X20 X14"),
        stages=at("learning_rate", "symptom"),
        apply=_no_more_after_three,
        effort="after_training",
    ),
    Fault(
        id="schedule_per_step",
        title="a decay meant per epoch is applied per step",
        layer="training",
        source="schedulers stepped at the wrong place",
        expected=asks("G17 G20 X20 X14"),
        stages=at("learning_rate", "symptom"),
        apply=_decayed_per_step,
        effort="after_training",
    ),
)
