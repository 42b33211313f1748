"""AdamW with parameter groups, the learning-rate schedule, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

Schedule = Literal["cosine", "constant"]


def is_decayed(module: nn.Module, name: str, parameter: Tensor, decay_embeddings: bool) -> bool:
    """Whether weight decay applies to a parameter: to matrices that mix features, nothing else.

    Args:
        module: the module that owns the parameter.
        name: the parameter's name within it.
        parameter: its value.
        decay_embeddings: whether embedding tables are decayed too.
    """
    if isinstance(module, nn.Embedding):
        return decay_embeddings
    is_norm = "norm" in type(module).__name__.lower()
    return parameter.ndim >= 2 and not is_norm and "bias" not in name


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_embeddings: bool = False
) -> list[dict]:
    """Optimiser groups: with weight decay, and without.

    A parameter shared by two modules is listed once, where it is met first.

    Args:
        model: the model to train.
        weight_decay: AdamW's decoupled decay for the matrices.
        decay_embeddings: whether embedding tables are decayed too.

    >>> groups = parameter_groups(nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 3)), 0.1)
    >>> [(group["name"], len(group["params"]), group["weight_decay"]) for group in groups]
    [('decayed', 1, 0.1), ('not_decayed', 2, 0.0)]
    """
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    met: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in met or not parameter.requires_grad:
                continue
            met.add(id(parameter))
            decays = is_decayed(module, name, parameter, decay_embeddings)
            (decayed if decays else not_decayed).append(parameter)
    groups = [
        {"name": "decayed", "params": decayed, "weight_decay": weight_decay},
        {"name": "not_decayed", "params": not_decayed, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    decay_embeddings: bool = False,
    betas: tuple[float, float] = (0.9, 0.98),
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, with the kernel that updates all tensors in one pass."""
    return torch.optim.AdamW(
        parameter_groups(model, weight_decay, decay_embeddings),
        lr=learning_rate,
        betas=betas,
        fused=True,
    )


def learning_rate_at(
    step: int,
    progress: float,
    *,
    peak: float,
    warmup_steps: int = 0,
    schedule: Schedule = "cosine",
    final_share: float = 0.0,
) -> float:
    """Learning rate of one step: linear warm-up to the peak, then constant or a half cosine.

    Args:
        step: optimiser steps made before this one.
        progress: share of the training budget already spent, 0..1. A share rather than a step, as
            epochs differ a little in their number of batches.
        peak: highest learning rate.
        warmup_steps: steps of linear warm-up; 0 starts at the peak.
        schedule: what follows warm-up.
        final_share: learning rate at the end of the cosine, as a share of the peak.

    >>> learning_rate_at(0, 0.0, peak=1.0, warmup_steps=4)
    0.25
    >>> learning_rate_at(9, 1.0, peak=1.0, warmup_steps=4, final_share=0.1)
    0.1
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    if schedule == "constant":
        return peak * warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return peak * warmup * (final_share + (1 - final_share) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scales gradients down to a global norm, in place.

    Returns:
        Scalar on the gradients' device: the global L2 norm *before* clipping.
    """
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
