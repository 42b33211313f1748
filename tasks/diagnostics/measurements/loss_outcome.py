"""The declared loss after training, recomputed, beside what no model and what counting reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements import count_models, loss_forms
from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch, Draws

MAX_TARGETS = 4000
PRIORS = (1.0, 5.0, 20.0, 100.0)
"""Weights of popularity beside transition counts, in events; the best of them is taken."""


@dataclass(frozen=True)
class LossOutcome:
    """Means over the targets of some training batches, dropout off."""

    trained: float = quantity("nats, trained weights")
    uniform: float = quantity("nats, all items scored alike")
    popularity: float = quantity("nats, items scored by the log of their training counts")
    transitions: float = quantity("nats, items scored by held-out transition counts")
    num_targets: int = quantity("targets")


def measure(probe: Probe) -> LossOutcome:
    """Score real training windows with trained weights and by counting."""
    model = probe.model(trained=True)
    batches = chosen_batches(probe)
    if probe.subject.declared.loss == "other":
        return _by_the_program(probe, model, batches)
    data = probe.data
    counts = count_models.count(data.train.items, data.train.offsets, data.num_items)
    log_popularity = torch.from_numpy(np.log(counts.popularity[1:]))

    def alike(batch: Batch) -> Tensor:
        return torch.zeros(*batch.item_ids.shape, data.num_items, dtype=torch.float64)

    def popular(batch: Batch) -> Tensor:
        return log_popularity.expand(*batch.item_ids.shape, -1)

    uniform = declared_mean(probe, batches, alike)
    return LossOutcome(
        trained=model_loss(probe, model, batches),
        uniform=uniform,
        popularity=declared_mean(probe, batches, popular),
        transitions=_transitions_held_out(probe) if _is_plain(probe) else uniform,
        num_targets=sum(batch.num_targets for batch in batches),
    )


def chosen_batches(probe: Probe) -> list[Batch]:
    """Return training batches of about `MAX_TARGETS` targets."""
    chosen: list[Batch] = []
    total = 0
    for batch in probe.all_batches:
        if batch.num_targets == 0:
            continue
        chosen.append(batch)
        total += batch.num_targets
        if total >= MAX_TARGETS:
            break
    if not chosen:
        raise NotMeasuredError("a training batch with targets")
    return chosen


def model_loss(probe: Probe, model: nn.Module, batches: list[Batch]) -> float:
    """Return the declared loss of a model in eval mode, recomputed from its logits."""
    model.eval()

    def scores(batch: Batch) -> Tensor:
        return probe.logits(model, batch)[..., 1:].double()

    return declared_mean(probe, batches, scores)


def declared_mean(probe: Probe, batches: list[Batch], scores: Callable[[Batch], Tensor]) -> float:
    """Return the declared loss of scores (B, S, num_items) per batch, mean over targets, nats."""
    declared = probe.subject.declared
    total, number = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            rows, columns = batch.asked.nonzero(as_tuple=True)
            draws: Draws | None = None
            if declared.loss not in (*loss_forms.FULL_LOSSES, "other"):
                draws = probe.ask("sample_negatives", probe.prepared, batch)
            targets = batch.targets[rows, columns]
            value = loss_forms.declared_loss(
                scores(batch)[rows, columns], targets, rows, declared, draws
            )
            total += float(value) * len(rows)
            number += len(rows)
    return total / number


def _by_the_program(probe: Probe, model: nn.Module, batches: list[Batch]) -> LossOutcome:
    """A loss without an independent form: the program's own value, beside that of new weights."""

    def mean(given: nn.Module) -> float:
        number = sum(batch.num_targets for batch in batches)
        values = [float(program_loss(probe, given, b)) * b.num_targets for b in batches]
        return sum(values) / number

    with torch.no_grad():
        before, after = mean(probe.model()), mean(model)
    number = sum(batch.num_targets for batch in batches)
    return LossOutcome(after, before, before, before, number)


def _is_plain(probe: Probe) -> bool:
    return probe.subject.declared.loss in loss_forms.FULL_LOSSES


def _transitions_held_out(probe: Probe) -> float:
    """Cross-entropy of transition counts on every user's last training event, left out of them."""
    train, num_items = probe.data.train, probe.data.num_items
    items, offsets = np.asarray(train.items, dtype=np.int64), np.asarray(train.offsets)
    long = np.flatnonzero(np.diff(offsets) >= 3)
    if len(long) == 0 or items.min() < 1 or items.max() > num_items:
        return math.log(num_items)
    kept = np.ones(len(items), dtype=bool)
    kept[offsets[long + 1] - 1] = False
    lengths = np.diff(offsets)
    lengths[long] -= 1
    inner = np.concatenate([[0], np.cumsum(lengths)])
    counts = count_models.count(items[kept], inner, num_items)
    last, target = items[offsets[long + 1] - 2], items[offsets[long + 1] - 1]
    losses = [
        -np.log(count_models.transition_probabilities(counts, last, target, prior)).mean()
        for prior in PRIORS
    ]
    return float(min(losses))
