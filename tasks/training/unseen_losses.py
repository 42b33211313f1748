"""Losses and gradient norms that wait on the device until somebody looks at them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from tasks.training.plan import NonFiniteLossError
from tasks.training.snapshot import Progress
from tasks.training.step import StepResult


class UnseenLosses:
    """Results of steps that were not looked at yet: on a GPU, every look makes the host wait.

    Args:
        progress: is told of the last finite loss.
        save_failure: writes the state a training failed in; returns where it is, in a sentence.
    """

    def __init__(self, progress: Progress, save_failure: Callable[[], str]) -> None:
        self._progress = progress
        self._save_failure = save_failure
        self._waiting: list[_Unseen] = []

    def __len__(self) -> int:
        """Number of steps since the last look."""
        return len(self._waiting)

    def add(self, step: int, learning_rate: float, result: StepResult) -> None:
        """Keeps what a step returned."""
        self._waiting.append(_Unseen(step, learning_rate, result))

    def look(self) -> None:
        """Looks at all that wait, and forgets them.

        Raises:
            NonFiniteLossError: a loss or gradient norm is NaN or infinite; the state was saved.
        """
        if not self._waiting:
            return
        values = torch.stack([torch.stack(one.result).float() for one in self._waiting]).tolist()
        for one, (loss, grad_norm) in zip(self._waiting, values, strict=True):
            if math.isfinite(loss) and math.isfinite(grad_norm):
                self._progress.last_finite_loss = loss
                continue
            where = self._save_failure()
            raise NonFiniteLossError(
                "gradient norm" if math.isfinite(loss) else "loss",
                one.step,
                one.learning_rate,
                self._progress.last_finite_loss,
                where,
            )
        self._waiting.clear()


class _Unseen(NamedTuple):
    step: int
    learning_rate: float
    result: StepResult
