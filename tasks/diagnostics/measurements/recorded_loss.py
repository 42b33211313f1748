"""The recorded loss of an epoch beside the loss its weights have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from tasks.diagnostics.measurements.loss_curve import column
from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity

BATCHES = 20
FEWEST_EPOCHS = 3
SLACK = 0.1
"""Share of the whole fall that the weights' way through an epoch may account for."""

NOISE = 3.0
"""Standard errors of the means that batches drawn at random may account for besides."""


@dataclass(frozen=True)
class RecordedLoss:
    """Loss of the best epoch: on record, and of the weights kept from it."""

    recorded: float = quantity("nats, mean over the epoch whose weights are kept")
    following: float = quantity("nats, mean over the epoch after it")
    found: float = quantity("nats, of the kept weights in training mode")
    noise: float = quantity("standard error of the found loss beside an epoch's, nats")
    outside: float = quantity(
        "distance of the found loss from both beyond the noise, in falls of the whole curve"
    )


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
    found, noise = _loss(probe, int(best))
    low, high = sorted((float(losses[at]), float(following)))
    outside = max(low - found - NOISE * noise, found - high - NOISE * noise, 0.0)
    return RecordedLoss(float(losses[at]), float(following), found, noise, outside / fall)


def _loss(probe: Probe, epoch: int) -> tuple[float, float]:
    """Mean loss per target of the trained weights over some batches, in training mode.

    Returns:
        The mean, and its standard error as an estimate of the mean of another whole epoch.
    """
    model = probe.model(trained=True).train()
    batches = probe.ask("make_batches", probe.prepared, probe.seed, epoch)
    losses, targets = [], []
    torch.manual_seed(probe.seed)
    try:
        chosen = list(islice(batches, BATCHES))
    except Exception as error:
        raise SubjectError.of("make_batches", error) from error
    with torch.no_grad():
        for batch in chosen:
            losses.append(float(program_loss(probe, model, batch)))
            targets.append(batch.num_targets)
    mean = float(np.average(losses, weights=targets)) if any(targets) else 0.0
    spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0
    epoch_batches = max(len(probe.all_batches), 1)
    return mean, spread * math.sqrt(1 / max(len(losses), 1) + 1 / epoch_batches)
