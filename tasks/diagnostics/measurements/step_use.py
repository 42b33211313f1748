"""What an optimiser makes of the gradient of the loss: which way it goes, and what it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.clipping import quiet_model, raw_gradient
from tasks.diagnostics.measurements.step_trace import run_steps
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

CLEAR = 0.05
"""Cosine between a step and the gradient beyond which the step goes up, not aside."""

ROUNDING = 1e-5
"""Share of the largest gradient below which another one may be rounding, float32's twice over."""

MOST_STEPS, ROWS = 20, 4
"""Steps whose rates are watched, a quarter of the budget at most; rows of each."""


@dataclass(frozen=True)
class StepUse:
    """What optimiser steps are like beside the gradients of the loss."""

    uphill: int = quantity("parameters whose first step raises the loss")
    lost: int = quantity("parameters with a gradient that does not reach the optimiser")
    without: int = quantity("calls of optimizer.step without any gradient")
    used_again: int | None = quantity("calls of optimizer.step with the gradient of the last one")
    forgotten: int | None = quantity("calls that the optimiser's own counter does not know of")
    num_steps: int = quantity("steps watched")
    highest_rate: float = quantity("largest learning rate in these steps")
    rate_left: float = quantity("largest rate of the last step over that of all")
    below_epsilon: float = quantity("share of gradient entries below the optimiser's epsilon")
    stopped: int = quantity("parameters that the last of these steps does not move")
    first_stopped: str = ""
    first_uphill: str = ""
    first_lost: str = ""


def measure(probe: Probe) -> StepUse:
    """Make one step without weight decay beside the gradient, then watch a number of them.

    An optimiser may scale, smooth, precondition or sign a gradient: its first step still goes
    down. Whatever counts its steps has counted all of them, and two batches never have one
    gradient.
    """
    uphill, lost = _first_step(probe)
    declared = probe.subject.declared
    accumulate = max(1, declared.accumulate_steps)
    budget = -(-len(probe.all_batches) // accumulate) * declared.max_epochs
    number = max(3, min(MOST_STEPS, budget // 4))
    model = quiet_model(probe).to(probe.precision)
    optimizer = probe.ask("make_optimizer", model)
    rates: list[float] = []
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: rates.append(_rate(opt)))
    batches = [probe.all_batches[n % len(probe.all_batches)] for n in range(number * accumulate)]
    batches = [b.rows(b.asked.any(dim=1).nonzero().flatten()[:ROWS]) for b in batches]
    calls = run_steps(probe, model, optimizer, batches).gradients
    stopped = _stopped(probe, model, optimizer, batches[:accumulate], calls)
    again = sum(_same(one, two) for one, two in pairwise(calls))
    return StepUse(
        uphill=len(uphill),
        lost=len(lost),
        without=sum(not _any(gradients) for gradients in calls),
        used_again=again if len(probe.all_batches) > 1 else None,
        forgotten=_forgotten(optimizer, len(calls)),
        num_steps=number,
        highest_rate=max(rates, default=0.0),
        rate_left=rates[-1] / max(rates) if rates and max(rates) > 0 else 1.0,
        below_epsilon=_below_epsilon(model, optimizer, calls[0] if calls else {}),
        first_uphill=uphill[0] if uphill else "",
        stopped=len(stopped),
        first_stopped=stopped[0] if stopped else "",
        first_lost=lost[0] if lost else "",
    )


def _first_step(probe: Probe) -> tuple[list[str], list[str]]:
    """Names of parameters that go up in the first step, and of those whose gradient got lost."""
    batch = probe.batch()
    raw = raw_gradient(probe, batch)
    model = quiet_model(probe)
    optimizer = probe.ask("make_optimizer", model)
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    before = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    parts = [batch] * max(1, probe.subject.declared.accumulate_steps)
    calls = run_steps(probe, model, optimizer, parts).gradients
    if not calls:
        raise NotMeasuredError("a call of optimizer.step")
    # What is 0 by derivation comes out as rounding, and an optimiser that scales steps either way.
    rounding = ROUNDING * max((float(gradient.norm()) for gradient in raw.values()), default=0.0)
    uphill = [
        name
        for name, parameter in model.named_parameters()
        if name in raw
        and float(raw[name].norm()) > rounding
        and _cosine(parameter.detach().double() - before[name], raw[name]) > CLEAR
    ]
    arrived = {n for call in calls for n, g in call.items() if bool((g != 0).any())}
    there = [name for name, gradient in raw.items() if bool((gradient != 0).any())]
    # Where nothing arrives at all, no single parameter is lost.
    return uphill, [name for name in there if name not in arrived] if arrived else []


def _stopped(
    probe: Probe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    first: list[Batch],
    calls: list[dict[str, Tensor]],
) -> list[str]:
    """Parameters with a gradient in the first step that the first batch does not move any more.

    Where the rate has fallen to nothing, no parameter is to blame.
    """
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    again = run_steps(probe, model, optimizer, first).gradients
    if not again or not calls or _rate(optimizer) <= 0:
        return []
    after = dict(model.named_parameters())
    had = [name for name, gradient in calls[0].items() if bool((gradient != 0).any())]
    still = [n for n in had if n not in again[-1] or bool((again[-1][n] != 0).any())]
    return [name for name in still if torch.equal(before[name], after[name].detach())]


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return max((float(group.get("lr", 0.0)) for group in optimizer.param_groups), default=0.0)


def _below_epsilon(
    model: nn.Module, optimizer: torch.optim.Optimizer, gradients: dict[str, Tensor]
) -> float:
    """Share of gradient entries, of those that are not 0, that an epsilon in the step outweighs."""
    epsilon = {
        id(p): float(group.get("eps", 0.0))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    below = total = 0
    for name, parameter in model.named_parameters():
        if name in gradients:
            entries = gradients[name][gradients[name] != 0].abs()
            below += int((entries < epsilon.get(id(parameter), 0.0)).sum())
            total += entries.numel()
    return below / total if total else 0.0


def _cosine(step: Tensor, gradient: Tensor) -> float:
    size = float(step.norm()) * float(gradient.norm())
    if not 0 < size < float("inf"):
        return 0.0
    return float((step * gradient).sum()) / size


def _same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    if one.keys() != two.keys() or not _any(one):
        return False
    return all(torch.equal(one[name], two[name]) for name in one)


def _any(gradients: dict[str, Tensor]) -> bool:
    return any(bool((gradient != 0).any()) for gradient in gradients.values())


def _forgotten(optimizer: torch.optim.Optimizer, calls: int) -> int | None:
    """Calls less the most steps any parameter's state has counted; None where none are counted."""
    counted = [float(state["step"]) for state in optimizer.state.values() if "step" in state]
    if not counted and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        counted = [0.0]
    return calls - int(max(counted)) if counted else None
