"""AdamW without a schedule: an average takes the place of a falling learning rate.

Defazio et al. 2024, "The Road Less Scheduled", algorithm 1. Gradients are taken at y, between the
iterate z that AdamW moves and the average x of all z that is validated and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.lever_changes.averaging import ShownAverage, shown_in_validation
from benchmarks.lever_changes.rates import BETAS
from tasks.training.assemble import Trial
from tasks.training.optimizer import parameter_groups
from tasks.training.plan import TrainingPlan


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Schedule-free AdamW; the parameters hold y.

    All state is made at once and kept on the parameters' device, so that a step can be captured.

    Args:
        groups: with their ``weight_decay``.
        lr: learning rate; warm-up is whoever's who sets it.
        betas: share of x in y, and decay of the second moment.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        betas: tuple[float, float] = BETAS,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        device = self.param_groups[0]["params"][0].device
        self.steps = torch.zeros((), device=device)
        self.weight_sum = torch.zeros((), device=device)
        for parameter in self.all_parameters():
            self.state[parameter]["z"] = parameter.detach().clone()
            self.state[parameter]["x"] = parameter.detach().clone()
            self.state[parameter]["v"] = torch.zeros_like(parameter)

    def all_parameters(self) -> list[Tensor]:
        """Parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def averages(self) -> list[Tensor]:
        """x of every parameter of `all_parameters`."""
        return [self.state[p]["x"] for p in self.all_parameters()]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step; a closure is not called."""
        self.steps += 1
        first = self.param_groups[0]
        rate = first["lr"] * (1 - first["betas"][1] ** self.steps).sqrt()
        self.weight_sum += rate**2
        share = rate**2 / self.weight_sum
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                z, x, v = (self.state[y][name] for name in "zxv")
                v.mul_(beta2).addcmul_(y.grad, y.grad, value=1 - beta2)
                update = y.grad / (v.sqrt() + group["eps"]) + group["weight_decay"] * y
                z.sub_(rate * update)
                x.add_(share * (z - x))
                y.copy_(z + beta1 * (x - z))


def use_schedule_free(trial: Trial) -> Trial:
    """Trained without a schedule after warm-up; the averages are validated and kept."""
    made: list[ShownAverage] = []

    def make_optimizer(model: nn.Module, plan: TrainingPlan) -> ScheduleFreeAdamW:
        groups = parameter_groups(model, plan.weight_decay)
        optimizer = ScheduleFreeAdamW(groups, plan.learning_rate)
        made[:] = [ShownAverage(optimizer.all_parameters(), optimizer.averages())]
        return optimizer

    changed = shown_in_validation(trial, lambda: made[0], lambda: None)
    parts = replace(changed.parts, make_optimizer=make_optimizer)
    return replace(changed, parts=parts, plan=replace(trial.plan, schedule="constant"))
