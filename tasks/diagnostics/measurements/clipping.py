"""What the optimiser gets of a gradient that is far above the clipping limit, and far below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.measurements.step_trace import run_steps
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

ABOVE, BELOW = 10.0, 0.01
"""Norms that are tried, in multiples of the declared limit (of 1 where none is declared)."""


@dataclass(frozen=True)
class Clipping:
    """Gradient norms before and at the optimiser."""

    declared: float = quantity("declared limit of the global norm, 0 = none")
    raw_norm: float = quantity("norm of the loss's gradient, made large")
    norm_at_optimizer: float = quantity("norm of the gradient the optimiser gets of it")
    cosine: float = quantity("cosine between both gradients")
    small_ratio: float = quantity("norm at the optimiser over the raw one, far below the limit")
    calls: int = quantity("calls of optimizer.step")
    small_cosine: float = quantity("cosine far below the limit")


def measure(probe: Probe) -> Clipping:
    """Hand the program's step its own loss times a factor, and watch the optimiser.

    Dropout rates are 0 in the probe's own models, so that raw and arriving gradients are of one
    loss.
    """
    declared = probe.subject.declared.max_grad_norm
    batch = probe.batch()
    raw = raw_gradient(probe, batch)
    size = _norm(raw)
    if not 0 < size < float("inf"):
        raise NotMeasuredError("a finite gradient of the loss")
    scale = (declared if declared > 0 else 1.0) / size
    large, calls = _arriving(probe, batch, ABOVE * scale)
    small, _ = _arriving(probe, batch, BELOW * scale)
    norm = _norm(large)
    if norm == 0:
        raise NotMeasuredError("a gradient that reaches the optimiser")
    return Clipping(
        declared=declared,
        raw_norm=ABOVE * scale * size,
        norm_at_optimizer=norm,
        cosine=_cosine(large, raw),
        small_ratio=_norm(small) / (BELOW * scale * size),
        calls=calls,
        small_cosine=_cosine(small, raw),
    )


def _cosine(arriving: dict[str, Tensor], raw: dict[str, Tensor]) -> float:
    size = _norm(arriving) * _norm(raw)
    dot = sum(float((g * raw[n]).sum()) for n, g in arriving.items() if n in raw)
    return dot / size if size > 0 else 0.0


def raw_gradient(probe: Probe, batch: Batch) -> dict[str, Tensor]:
    """Gradient of the loss by every parameter that has one, without dropout, in float64."""
    model = quiet_model(probe).train()
    torch.manual_seed(probe.seed)
    loss = program_loss(probe, model, batch)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not loss.requires_grad or not named:
        raise NotMeasuredError("a gradient of the loss")
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {
        name: gradient.to_dense().double()
        for (name, _), gradient in zip(named, grads, strict=True)
        if gradient is not None
    }


def _arriving(probe: Probe, batch: Batch, factor: float) -> tuple[dict[str, Tensor], int]:
    """Gradient at the optimiser when the loss is multiplied, and the number of its calls."""
    model = quiet_model(probe)
    optimizer = probe.ask("make_optimizer", model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    own = probe.subject.loss

    def multiplied(given: nn.Module, part: Batch) -> Tensor:
        # Negatives or noise of the loss are those of the raw gradient.
        torch.manual_seed(probe.seed)
        return own(given, part) * factor

    loss: Callable[..., Any] | None = None if own is None else multiplied
    parts = [batch] * max(1, probe.subject.declared.accumulate_steps)
    seen = run_steps(probe, model, optimizer, parts, loss=loss).gradients
    if not seen:
        raise NotMeasuredError("a call of optimizer.step")
    return {name: gradient.double() for name, gradient in seen[-1].items()}, len(seen)


def quiet_model(probe: Probe) -> nn.Module:
    """Return a model with shaken weights and without dropout."""
    model = probe.model()
    shake_weights(model, probe.seed)
    without_dropout(model)
    return model


def without_dropout(model: nn.Module) -> None:
    """Set every dropout rate of a module of one's own to 0, in place."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase | nn.MultiheadAttention):
            module.dropout = 0.0


def _norm(gradients: dict[str, Tensor]) -> float:
    return sum(float(g.square().sum()) for g in gradients.values()) ** 0.5
