"""What an optimiser step says its loss was, beside the losses it called for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

ROWS = 16


@dataclass(frozen=True)
class ReportedLoss:
    """One step and the losses it evaluated on the way."""

    reported: float = quantity("nats")
    smallest: float = quantity("smallest loss the step evaluated, nats")
    largest: float = quantity("largest loss the step evaluated, or all together, nats")
    distance: float = quantity("share of the loss")


def measure(probe: Probe) -> ReportedLoss:
    """Hand a step the program's own loss and note every value it gives.

    A step of several parts may report their mean or their sum, and nothing outside.
    """
    loss = probe.subject.loss
    if loss is None:
        raise NotOfferedError("loss")
    seen: list[float] = []

    def noted(model: nn.Module, batch: Batch) -> Tensor:
        value = loss(model, batch)
        seen.append(float(value.detach()))
        return value

    model = probe.model()
    optimizer = probe.ask("make_optimizer", model)
    torch.manual_seed(probe.seed)
    batch = probe.all_batches[0].rows(slice(0, ROWS))
    reported = float(probe.ask("train_step", noted, model, optimizer, batch))
    if not seen:
        raise NotMeasuredError("a `train_step` that calls the loss it is given")
    low, high = min(seen), max(*seen, sum(seen))
    outside = max(low - reported, reported - high, 0.0) if reported == reported else float("inf")
    return ReportedLoss(reported, low, high, outside / max(abs(high), 1e-12))
