"""Learning rates by kind of parameter: items' vectors, matrices of the blocks, all the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tasks.training.assemble import Trial
from tasks.training.optimizer import parameter_groups
from tasks.training.plan import TrainingPlan

BETAS = (0.9, 0.98)
"""As of the pipeline's own AdamW."""


class ScaledAdamW(torch.optim.AdamW):
    """AdamW whose groups take a share of the learning rate that the loop sets for all of them.

    Every group has a ``rate_scale``.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step at the scaled rates."""
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = group["lr"] * group["rate_scale"]
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate


def groups_by_kind(
    model: nn.Module, weight_decay: float, *, embedding: float = 1.0, matrices: float = 1.0
) -> list[dict[str, Any]]:
    """Optimiser groups by kind, each with the share of the learning rate it takes.

    Args:
        model: its embeddings are modules of torch's own class.
        weight_decay: of the matrices.
        embedding: share of the items' vectors.
        matrices: share of everything that weight decay applies to.

    >>> model = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3))
    >>> groups = groups_by_kind(model, 0.1, embedding=0.5)
    >>> [(group["name"], group["rate_scale"], len(group["params"])) for group in groups]
    [('decayed', 1.0, 1), ('embedding', 0.5, 1), ('not_decayed', 1.0, 1)]
    """
    found = []
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for group in parameter_groups(model, weight_decay):
        vectors = [p for p in group["params"] if id(p) in tables]
        others = [p for p in group["params"] if id(p) not in tables]
        scale = matrices if group["name"] == "decayed" else 1.0
        if vectors:
            found.append({**group, "name": "embedding", "params": vectors, "rate_scale": embedding})
        if others:
            found.append({**group, "params": others, "rate_scale": scale})
    return found


def make_scaled_adamw(
    model: nn.Module, plan: TrainingPlan, *, embedding: float = 1.0, matrices: float = 1.0
) -> ScaledAdamW:
    """The optimiser of `TrainingParts.make_optimizer`."""
    groups = groups_by_kind(model, plan.weight_decay, embedding=embedding, matrices=matrices)
    return ScaledAdamW(groups, lr=plan.learning_rate, betas=BETAS, fused=True)


def scale_rates(trial: Trial, *, embedding: float = 1.0, matrices: float = 1.0) -> Trial:
    """Items' vectors and matrices learn at shares of the learning rate.

    Dividing the matrices' rate by what multiplies the width is the rule of Yang et al. 2022
    (muP) for Adam; items' vectors keep theirs.
    """
    make = partial(make_scaled_adamw, embedding=embedding, matrices=matrices)
    return replace(trial, parts=replace(trial.parts, make_optimizer=make))
