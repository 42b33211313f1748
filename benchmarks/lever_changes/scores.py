"""Scores as cosines over a temperature, which is fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.training.assemble import Trial


class Positive(nn.Module):
    """A positive value as the exponential of what is learned: steps are shares of the value."""

    def forward(self, logarithm: Tensor) -> Tensor:
        """The value.

        >>> Positive()(torch.tensor(0.0))
        tensor(1.)
        """
        return logarithm.exp()


def normalize(trial: Trial, temperature: float) -> Trial:
    """Hidden states and item vectors are scaled to length 1 before their product."""
    trial.parts.model.normalize = True
    trial.parts.model.temperature = temperature
    return trial


def learn_temperature(trial: Trial, start: float) -> Trial:
    """The same with a temperature that is trained along."""
    model = normalize(trial, start).parts.model
    device = next(model.parameters()).device
    del model.temperature
    model.temperature = nn.Parameter(torch.tensor(math.log(start), device=device))
    parametrize.register_parametrization(model, "temperature", Positive(), unsafe=True)
    return trial
