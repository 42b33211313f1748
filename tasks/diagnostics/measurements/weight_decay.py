"""How much weights shrink in one optimiser step whose gradients are all zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class WeightDecay:
    """Shrinkage beside the declared one."""

    declared: float = quantity("declared shrinkage per step: learning rate x weight decay")
    largest_shrink: float = quantity("largest shrinkage of a parameter in one step")
    decayed_share: float = quantity("share of weights that shrink")
    learning_rate: float = quantity("learning rate of the optimiser")


def measure(probe: Probe) -> WeightDecay:
    """Give the program's optimiser zero gradients in float64 and make one step."""
    model = probe.model()
    shake_weights(model, probe.seed)  # a weight of 0 can't show that it shrinks
    model.double()
    optimizer = probe.ask("make_optimizer", model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not parameters:
        raise NotMeasuredError("parameters in the optimiser")
    before = [p.detach().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except Exception as error:
        raise SubjectError.of("make_optimizer", error) from error
    shrinks, shrunk, total = [0.0], 0, 0
    for old, new in zip(before, parameters, strict=True):
        usable = torch.isfinite(old) & (old.abs() > 1e-12)
        if not bool(usable.any()):
            continue
        shrink = 1 - (new.detach()[usable] / old[usable])
        shrinks.append(float(shrink.median()))
        shrunk += int((shrink > 0).sum())
        total += int(usable.sum())
    declared = probe.subject.declared
    return WeightDecay(
        declared=declared.learning_rate * declared.weight_decay,
        largest_shrink=max(shrinks),
        decayed_share=shrunk / max(total, 1),
        learning_rate=float(optimizer.param_groups[0]["lr"]),
    )
