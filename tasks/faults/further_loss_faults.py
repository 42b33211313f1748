"""Further faults of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_criterion


def _mean(of: Callable[[Tensor, Batch], Tensor]) -> Callable[[Subject], Subject]:
    return lambda subject: change_criterion(subject, of)


def _rows(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    asked = batch.targets > 0
    return logits[asked][:, 1:], batch.targets[asked] - 1


def _over_all_positions(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(*_rows(logits, batch), reduction="sum") / batch.targets.numel()


def _only_last(logits: Tensor, batch: Batch) -> Tensor:
    last = (batch.lengths - 1).clamp(min=0)
    rows = torch.arange(len(last))
    real = batch.targets[rows, last] > 0
    return F.cross_entropy(logits[rows, last][real][:, 1:], batch.targets[rows, last][real] - 1)


def _not_the_first(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(*_rows(logits[:, 1:], batch._replace(targets=batch.targets[:, 1:])))


def _mean_of_rows(logits: Tensor, batch: Batch) -> Tensor:
    losses = F.cross_entropy(
        logits[..., 1:].transpose(1, 2), (batch.targets - 1).clamp(min=0), reduction="none"
    )
    real = batch.targets > 0
    return ((losses * real).sum(1) / real.sum(1).clamp(min=1)).mean()


def _tempered(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _rows(logits, batch)
    return F.cross_entropy(scores / 5, targets)


def _of(
    id: str, title: str, numbers: str, stages: frozenset[str], apply: Any, **more: Any
) -> Fault:
    source = more.pop("source", "mutation of a training loop")
    return Fault(id, title, "training", source, asks(numbers), stages, apply, **more)


FAULTS = (
    _of(
        "loss_over_padding",
        "the loss is divided by all positions, padding included",
        "G14 G4 X16",
        at("loss", "pad"),
        _mean(_over_all_positions),
    ),
    _of(
        "loss_of_last",
        "only the last position of a row has a loss",
        "G14 X16",
        at("loss"),
        _mean(_only_last),
    ),
    _of(
        "loss_without_first",
        "the first position of a row has no loss",
        "G14 X16 G18",
        at("loss", "pad"),
        _mean(_not_the_first),
    ),
    _of(
        "loss_mean_of_rows",
        "rows count alike in the loss, however many targets they have",
        "G14",
        at("loss"),
        _mean(_mean_of_rows),
    ),
    _of(
        "loss_tempered",
        "the loss divides logits by 5, which nothing declares",
        "G14 X16 G13",
        at("loss"),
        _mean(_tempered),
    ),
)
"""Found by changing the pipeline the way people change training loops."""
