"""What norm do gradients have when the optimiser gets them, while their raw norm is far larger?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.measurements.step_trace import run_steps
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

GROWTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Factors on all weights, tried until the raw gradient is well above the limit."""


@dataclass(frozen=True)
class Clipping:
    """Gradient norms before and at the optimiser, on inflated weights."""

    declared: float = quantity("declared limit of the global norm, 0 = none")
    raw_norm: float = quantity("norm of the loss's gradient")
    norm_at_optimizer: float = quantity("norm of the gradient the optimiser gets")
    cosine: float = quantity("cosine between both gradients")


def measure(probe: Probe) -> Clipping:
    """Inflate the weights until clipping has to act, then look at what it lets through.

    Dropout rates are set to 0 in the probe's own model, so that both gradients are of one loss.
    """
    declared = probe.subject.declared.max_grad_norm
    batch = probe.batch()
    enough = 3.0 * (declared if declared > 0 else 1.0)
    best: Clipping | None = None
    for growth in GROWTHS:
        found = _compare(probe, batch, growth, declared)
        if found is None:
            continue
        if best is None or found.raw_norm > best.raw_norm:
            best = found
        if best.raw_norm >= enough:
            break
    if best is None:
        raise NotMeasuredError("a finite gradient at the optimiser")
    return best


def _compare(probe: Probe, batch: Batch, growth: float, declared: float) -> Clipping | None:
    model = _inflated(probe, growth)
    model.train()
    torch.manual_seed(probe.seed)
    loss = program_loss(probe, model, batch)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not loss.requires_grad or not named:
        return None
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    raw = {
        n: g.to_dense().double() for (n, _), g in zip(named, grads, strict=True) if g is not None
    }
    model = _inflated(probe, growth)
    optimizer = probe.ask("make_optimizer", model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    try:
        seen = run_steps(probe, model, optimizer, [batch]).gradients
    except SubjectError:
        if growth == GROWTHS[0]:
            raise
        return None
    if not seen or not raw:
        return None
    arrived = {n: g.double() for n, g in seen[-1].items()}
    raw_norm, norm = _norm(raw), _norm(arrived)
    if not (raw_norm < float("inf") and norm < float("inf")) or raw_norm == 0:
        return None
    dot = sum(float((g * raw[n]).sum()) for n, g in arrived.items() if n in raw)
    return Clipping(
        declared=declared,
        raw_norm=raw_norm,
        norm_at_optimizer=norm,
        cosine=dot / (raw_norm * norm) if norm > 0 else 0.0,
    )


def _inflated(probe: Probe, growth: float) -> nn.Module:
    model = probe.model()
    shake_weights(model, probe.seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(growth)
    without_dropout(model)
    return model


def without_dropout(model: nn.Module) -> None:
    """Set every dropout rate of a module of one's own to 0, in place."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0


def _norm(gradients: dict[str, Tensor]) -> float:
    return sum(float(g.square().sum()) for g in gradients.values()) ** 0.5
