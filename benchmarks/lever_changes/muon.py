"""Muon for the blocks' matrices, AdamW for everything else.

The momentum of a matrix is replaced by the nearest matrix whose singular values are all about 1
(Jordan et al. 2024), scaled so that its entries are as large as AdamW's updates (Liu et al. 2025):
the learning rate and the weight decay tuned for AdamW then apply to both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.lever_changes.rates import BETAS
from tasks.training.assemble import Trial
from tasks.training.optimizer import parameter_groups
from tasks.training.plan import TrainingPlan

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial a x + b x³ + c x⁵ that is applied to the singular values."""
ITERATIONS = 5
MOMENTUM = 0.95
ADAM_SIZE = 0.2
"""Root mean square of AdamW's updates, about (Liu et al. 2025)."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (..., M, N) with singular values near 1 and the same singular vectors.

    >>> found = orthogonalize(torch.diag(torch.tensor([3.0, 2.0, 1.0])))
    >>> bool((torch.linalg.svdvals(found) - 1).abs().max() < 0.35)
    True
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def as_matrices(tensor: Tensor) -> Tensor:
    """The matrices of a weight: of a gate (NH, DH, gates, DH) one per head and gate.

    >>> as_matrices(torch.zeros(2, 8, 4, 8)).shape, as_matrices(torch.zeros(2, 64, 32)).shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2, 64, 32]))
    """
    return tensor.transpose(1, 2) if tensor.ndim == 4 else tensor


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and decoupled weight decay; every group is all matrices."""

    def __init__(self, groups: list[dict], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter]["momentum"]
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = as_matrices(parameter.grad.lerp(momentum, MOMENTUM))
                size = ADAM_SIZE * max(ahead.shape[-2:]) ** 0.5
                update = as_matrices(orthogonalize(ahead)) * size  # its own inverse
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * update)


class Together:
    """Optimisers of different parameters as one, as far as the training loop asks.

    Attributes:
        param_groups: of all of them; a learning rate set here is theirs.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = [g for optimizer in optimizers for g in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()


def is_convolution(parameter: Tensor) -> bool:
    """Whether a weight is of a depthwise convolution (C, 1, K), which mixes no features."""
    return parameter.ndim == 3 and parameter.shape[1] == 1


def make_muon(model: nn.Module, plan: TrainingPlan) -> Together:
    """The optimiser of `TrainingParts.make_optimizer`."""
    matrices, rest = [], []
    for group in parameter_groups(model, plan.weight_decay):
        mixes = group["name"] == "decayed"
        chosen = [p for p in group["params"] if mixes and not is_convolution(p)]
        others = [p for p in group["params"] if not mixes or is_convolution(p)]
        matrices += [{**group, "params": chosen}] if chosen else []
        rest += [{**group, "params": others}] if others else []
    adamw = torch.optim.AdamW(rest, lr=plan.learning_rate, betas=BETAS, fused=True)
    return Together(Muon(matrices, plan.learning_rate), adamw)


def use_muon(trial: Trial) -> Trial:
    """Matrices of the blocks are trained by Muon."""
    return replace(trial, parts=replace(trial.parts, make_optimizer=make_muon))
