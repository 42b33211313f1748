"""Faults of loss, optimiser and loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault


def _softmax_twice(subject: Subject) -> Subject:
    logits = subject.logits

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        scores = torch.softmax(logits(model, batch)[..., 1:][batch.asked], dim=-1)
        return F.cross_entropy(scores, batch.targets[batch.asked] - 1)

    return subject.replace(loss=loss)


def _summed_loss(subject: Subject) -> Subject:
    original = subject.loss
    return subject.replace(loss=lambda model, batch: original(model, batch) * batch.num_targets)


FAULTS = (
    Fault(
        id="double_softmax",
        title="cross-entropy is given probabilities instead of logits",
        layer="training",
        severity=1.0,
        source="TheDeepChecker, redundant softmax",
        expected=frozenset({"loss_fits_task", "output_fits_task", "loss_matches_output"}),
        stages=frozenset({"loss", "output"}),
        apply=_softmax_twice,
    ),
    Fault(
        id="loss_sum",
        title="the loss is summed over positions instead of averaged",
        layer="training",
        severity=1.0,
        source="TheDeepChecker, sum reduction",
        expected=frozenset({"loss_fits_task"}),
        stages=frozenset({"loss"}),
        apply=_summed_loss,
    ),
)
