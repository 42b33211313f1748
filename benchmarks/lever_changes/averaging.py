"""Averages of the weights are validated and kept, while training goes on from the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tasks.training.assemble import Trial
from tasks.training.step import StepResult


class ShownAverage:
    """Puts averaged values in the place of a model's parameters until the next step.

    Validation is given them and the loop copies them, so that what is validated is what is kept.

    Args:
        parameters: of the model.
        averages: a value for each; changed in place by whoever averages.
    """

    def __init__(self, parameters: Iterable[Tensor], averages: list[Tensor]) -> None:
        self.parameters = list(parameters)
        self.averages = averages
        self._trained = [p.detach().clone() for p in self.parameters]
        self.is_shown = False

    @torch.no_grad()
    def show(self) -> None:
        """Averages in; nothing happens where they are in already."""
        if not self.is_shown:
            torch._foreach_copy_(self._trained, self.parameters)
            torch._foreach_copy_(self.parameters, self.averages)
            self.is_shown = True

    @torch.no_grad()
    def hide(self) -> None:
        """The weights as they were trained come back."""
        if self.is_shown:
            torch._foreach_copy_(self.parameters, self._trained)
            self.is_shown = False


def shown_in_validation(
    trial: Trial, shown: Callable[[], ShownAverage], after_step: Callable[[], None]
) -> Trial:
    """The trial with averages in the model from each validation to the next step.

    Args:
        trial: what is trained.
        shown: gives the averages, once training has begun.
        after_step: called after every step.
    """
    step, inner = trial.parts.step, trial.parts.validate

    def make_step(*args: Any, **kwargs: Any) -> StepResult:
        shown().hide()
        result = step(*args, **kwargs)
        after_step()
        return result

    def validate(model: nn.Module) -> Mapping[str, float]:
        shown().show()
        return inner(model)

    return replace(trial, parts=replace(trial.parts, step=make_step, validate=validate))


class MovingAverage:
    """Exponential moving average of parameters, which follows faster in the first steps.

    Args:
        parameters: of the model.
        decay: weight of the past at every step, 0..1, once ``(1 + t) / (10 + t)`` is larger.

    >>> weight = torch.zeros(1)
    >>> average = MovingAverage([weight], decay=0.9)
    >>> average.update(); float(weight.add_(1)); average.update()
    1.0
    >>> float(average.values[0].round(decimals=2))
    0.75
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.values = [p.detach().clone() for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present values in."""
        self._steps += 1
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self.values, self.parameters, 1 - decay)


def average_weights(trial: Trial, decay: float) -> Trial:
    """A moving average of the weights is validated and kept."""
    parameters = list(trial.parts.model.parameters())
    average = MovingAverage(parameters, decay)
    shown = ShownAverage(parameters, average.values)
    return shown_in_validation(trial, lambda: shown, average.update)
