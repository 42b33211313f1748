"""The recorded loss of an epoch beside the loss its weights have."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch

from tasks.diagnostics.measurements.loss_curve import column
from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity

BATCHES = 20
FEWEST_EPOCHS = 3
SLACK = 0.1
"""Share of the whole fall that noise, and the weights' way through an epoch, may account for."""


@dataclass(frozen=True)
class RecordedLoss:
    """Loss of the best epoch: on record, and of the weights kept from it."""

    recorded: float = quantity("nats, mean over the epoch whose weights are kept")
    following: float = quantity("nats, mean over the epoch after it")
    found: float = quantity("nats, of the kept weights in training mode")
    outside: float = quantity("distance of the found loss from both, in falls of the whole curve")


def measure(probe: Probe) -> RecordedLoss:
    """Compute the training loss of the kept weights, with the noise training has.

    The weights at the end of an epoch lie between what the epoch went through and what the next
    one did, so their loss lies between the two means.
    """
    trained = probe.subject.trained
    if trained is None:
        raise NotMeasuredError("a finished training; train the model, then run `assay diagnose`")
    losses, numbers = column(trained.epochs, "train/loss"), column(trained.epochs, "epoch")
    best = trained.record.get("best_epoch")
    places = [place for place, number in enumerate(numbers) if number == best]
    if len(losses) < FEWEST_EPOCHS or len(losses) != len(numbers) or len(places) != 1:
        raise NotMeasuredError(f"{FEWEST_EPOCHS} epochs with a loss, and `best_epoch`")
    at = places[0]
    before = losses[at - 1] if at > 0 else losses[at]
    following = losses[at + 1] if at + 1 < len(losses) else 2 * losses[at] - before
    fall = float(losses.max() - losses.min())
    if not fall > 0:
        raise NotMeasuredError("a recorded loss that moves")
    found = _loss(probe, int(best))
    low, high = sorted((float(losses[at]), float(following)))
    outside = max(low - found, found - high, 0.0)
    return RecordedLoss(float(losses[at]), float(following), found, outside / fall)


def _loss(probe: Probe, epoch: int) -> float:
    """Mean loss per target of the trained weights over some batches, in training mode."""
    model = probe.model(trained=True).train()
    batches = probe.ask("make_batches", probe.prepared, probe.seed, epoch)
    total, targets = 0.0, 0
    torch.manual_seed(probe.seed)
    try:
        chosen = list(islice(batches, BATCHES))
    except Exception as error:
        raise SubjectError.of("make_batches", error) from error
    with torch.no_grad():
        for batch in chosen:
            total += float(program_loss(probe, model, batch)) * batch.num_targets
            targets += batch.num_targets
    return total / max(targets, 1)
