"""Faults nobody tuned a question on: written before any question was scored, then left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from tasks.diagnostics.subject import Batch, Draws, PreparedLog, Subject
from tasks.faults import (
    held_out_data_faults,
    held_out_evaluation_faults,
    held_out_model_faults,
)
from tasks.faults.fault import Fault, at
from tasks.faults.held_out_data_faults import held_out
from tasks.faults.loss_faults import change_draws
from tasks.faults.planting import change_criterion

Optimizer = torch.optim.Optimizer
LOSS_SCALE = 1024.0
SAMPLED = {"num_negatives": 20, "negatives_per": "user"}


def _asked(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return logits[batch.asked][:, 1:], batch.targets[batch.asked] - 1


def _smoothed(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(*_asked(logits, batch), label_smoothing=0.3)


def _cooled(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _asked(logits, batch)
    return F.cross_entropy(scores / 16, targets)


def _mean_per_row(logits: Tensor, batch: Batch) -> Tensor:
    each = F.cross_entropy(*_asked(logits, batch), reduction="none")
    row = batch.asked.nonzero()[:, 0]
    size = len(batch.targets)
    sums = each.new_zeros(size).index_add(0, row, each)
    counts = each.new_zeros(size).index_add(0, row, torch.ones_like(each))
    return (sums / counts.clamp(min=1))[counts > 0].mean()


def _last_position(logits: Tensor, batch: Batch) -> Tensor:
    last = (batch.lengths - 1).clamp(min=0)
    rows = torch.arange(len(last))
    return F.cross_entropy(logits[rows, last][:, 1:], batch.targets[rows, last] - 1)


def _uncorrected(subject: Subject) -> Subject:
    prepared = subject.prepared()

    def criterion(logits: Tensor, batch: Batch) -> Tensor:
        drawn = subject.sample_negatives(prepared, batch)
        rows = batch.asked.nonzero()[:, 0]
        scores, targets = logits[batch.asked], batch.targets[batch.asked]
        item_ids = drawn.item_ids.expand(len(batch.targets), -1)[rows]
        negative = scores.gather(1, item_ids).masked_fill(item_ids == targets[:, None], -torch.inf)
        positive = scores.gather(1, targets[:, None])
        return (torch.cat([positive, negative], 1).logsumexp(1) - positive[:, 0]).mean()

    return change_criterion(subject, criterion)


def _in_batch(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    generator = torch.Generator().manual_seed(batch.seed)
    pool = batch.targets[batch.asked]
    chosen = torch.randint(len(pool), drawn.item_ids.shape, generator=generator)
    return Draws(pool[chosen], drawn.log_q, drawn.is_positive)


def _loss(criterion: Callable[[Tensor, Batch], Tensor]) -> Callable[[Subject], Subject]:
    return lambda subject: change_criterion(subject, criterion)


Gradients = Callable[[nn.Module, float], object]


def _nothing(model: nn.Module, limit: float) -> None:
    return None


def _all_at_once(model: nn.Module, limit: float) -> None:
    clip_grad_norm_(model.parameters(), limit)


def _each_alone(model: nn.Module, limit: float) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            clip_grad_norm_([parameter], limit)


def _then_scaled_back(model: nn.Module, limit: float) -> None:
    _all_at_once(model, limit)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= LOSS_SCALE


def _step(
    before: Gradients, after: Gradients = _nothing, scale: float = 1.0
) -> Callable[[Subject], Subject]:
    """Write the training step anew, with something done to gradients before and after updating."""

    def plant(subject: Subject) -> Subject:
        limit = subject.declared.max_grad_norm

        def train_step(loss: Any, model: nn.Module, optimizer: Optimizer, batch: Batch) -> Tensor:
            model.train()
            torch.manual_seed(batch.seed)
            optimizer.zero_grad()
            value = loss(model, batch)
            (value * scale).backward()
            before(model, limit)
            optimizer.step()
            after(model, limit)
            return value.detach()

        return subject.replace(train_step=train_step)

    return plant


def _penalty_in_gradient(subject: Subject) -> Subject:
    declared = subject.declared
    return subject.replace(
        make_optimizer=lambda model: torch.optim.Adam(
            model.parameters(),
            lr=declared.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=declared.weight_decay,
        )
    )


def _large_epsilon(subject: Subject) -> Subject:
    declared = subject.declared
    return subject.replace(
        make_optimizer=lambda model: torch.optim.AdamW(
            model.parameters(),
            lr=declared.learning_rate,
            weight_decay=declared.weight_decay,
            eps=1.0,
        )
    )


FAULTS: tuple[Fault, ...] = (
    *held_out_data_faults.FAULTS,
    *held_out_model_faults.FAULTS,
    *held_out_evaluation_faults.FAULTS,
    held_out(
        "smoothing_undeclared",
        "labels are smoothed by 0.3 without being declared",
        "training",
        "G14",
        at("loss"),
        _loss(_smoothed),
    ),
    held_out(
        "cooled_loss",
        "the loss divides logits by a temperature of 16",
        "training",
        "G14 X16",
        at("loss"),
        _loss(_cooled),
    ),
    held_out(
        "mean_per_row",
        "the loss is averaged per row before it is averaged over rows",
        "training",
        "G14",
        at("loss"),
        _loss(_mean_per_row),
    ),
    held_out(
        "last_position_only",
        "only the last position of a row counts in the loss",
        "training",
        "G14",
        at("loss"),
        _loss(_last_position),
    ),
    held_out(
        "no_correction",
        "sampled softmax leaves out the correction for how negatives are drawn",
        "training",
        "G14 X16",
        at("loss"),
        _uncorrected,
        needs={**SAMPLED, "loss": "sampled_softmax", "negatives": "popularity"},
    ),
    held_out(
        "in_batch_negatives",
        "negatives are the targets of other rows although uniform ones were declared",
        "training",
        "X17",
        at("negatives"),
        change_draws(_in_batch),
        needs={**SAMPLED, "loss": "bpr"},
    ),
    held_out(
        "clip_each_parameter",
        "every parameter is clipped by itself instead of all together",
        "training",
        "G16 X15",
        at("clipping"),
        _step(_each_alone),
    ),
    held_out(
        "clip_after_step",
        "gradients are clipped after the optimiser has used them",
        "training",
        "G16 X15",
        at("clipping"),
        _step(_nothing, _all_at_once),
    ),
    held_out(
        "clip_before_unscaling",
        "gradients of a scaled loss are clipped before they are scaled back",
        "training",
        "G16 X15",
        at("clipping"),
        _step(_then_scaled_back, scale=LOSS_SCALE),
    ),
    held_out(
        "penalty_in_gradient",
        "weight decay is added to Adam's gradient although it was declared decoupled",
        "training",
        "G19",
        at("regularisation", "optimiser"),
        _penalty_in_gradient,
    ),
    held_out(
        "large_epsilon",
        "Adam's epsilon is 1, so steps follow the size of tiny gradients",
        "training",
        "G17 X14",
        at("learning_rate", "optimiser"),
        _large_epsilon,
    ),
)
"""Forty faults over data, model, training and evaluation."""
