"""Goes on where a killed training left off."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from tasks.training.checkpoint import CheckpointError, CheckpointFolder
from tasks.training.observer import Observer
from tasks.training.snapshot import Progress, restore


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over."""


def resume(
    checkpoints: CheckpointFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    observers: Sequence[Observer],
) -> Progress:
    """Goes back to the newest sound checkpoint; a new progress where there is none.

    Warns of every checkpoint that was passed over, with the reason, at the caller of `train`.

    Raises:
        ValueError: the checkpoint is of a run with another number of observers.
    """
    reasons: list[str] = []
    progress = None
    while progress is None:
        checkpoint, rejected = checkpoints.load_latest()
        reasons += rejected
        if checkpoint is None:
            break
        try:
            progress = restore(model, optimizer, observers, checkpoint.tensors, checkpoint.state)
        except CheckpointError as error:
            reasons.append(str(error))
            checkpoints.discard(checkpoint.step)
    for reason in reasons:
        going_on = f"Resuming at {progress.step}." if progress else "Starting anew."
        warnings.warn(f"{reason} {going_on}", CheckpointWarning, stacklevel=3)
    return progress or Progress()
