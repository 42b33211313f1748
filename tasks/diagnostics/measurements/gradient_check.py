"""The program's gradient beside finite differences of its own loss, one parameter at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

STEP = {torch.float64: 1e-5, torch.float32: 1e-2}
"""Half width of the central difference, as a share of the parameter's size."""

NOISE = {torch.float64: 1e-9, torch.float32: 2e-4}
"""Slope, as a share of the loss, below which a difference is rounding."""


@dataclass(frozen=True)
class GradientCheck:
    """Directional derivatives that autograd and finite differences disagree on."""

    num_parameters: int = quantity("trainable parameter tensors")
    blocked: int = quantity("parameters the loss depends on, with a gradient of zero or none")
    wrong: int = quantity("parameters whose gradient is not the slope of the loss")
    largest_error: float = quantity("share of the slope")
    unused_matrices: int = quantity("weight matrices the loss does not depend on")
    unused_others: int = quantity("other parameters the loss does not depend on")
    frozen: int = quantity("parameters that take no gradient")
    precision: str = quantity("precision of the check")
    first_blocked: str = ""
    first_wrong: str = ""
    first_unused: str = ""
    first_frozen: str = ""


def measure(probe: Probe) -> GradientCheck:
    """Compare slopes along one random direction per parameter, in float64 where that runs."""
    batch = probe.batch(rows=4, positions=10)
    model = probe.model()
    shake_weights(model, probe.seed)
    dtype = _widen(probe, model, batch)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    if not named:
        raise NotMeasuredError("a parameter that takes a gradient")
    torch.manual_seed(probe.seed)
    loss = program_loss(probe, model, batch)
    grads = [None] * len(named)
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    lists: dict[str, list[str]] = {"blocked": [], "wrong": [], "matrix": [], "other": []}
    largest = 0.0
    generator = torch.Generator().manual_seed(probe.seed)
    scale = max(abs(float(loss.detach())), 1e-6)
    for (name, parameter), gradient in zip(named, grads, strict=True):
        direction = torch.randn(parameter.shape, generator=generator).to(parameter)
        slope = _slope(probe, model, batch, parameter, direction, dtype)
        found = 0.0 if gradient is None else float((gradient.to_dense() * direction).sum())
        noise = NOISE[dtype] * scale
        if abs(slope) <= noise and abs(found) <= noise:
            used = gradient is not None and bool((gradient.to_dense() != 0).any())
            if not used:
                lists["matrix" if parameter.ndim >= 2 else "other"].append(name)
            continue
        error = abs(found - slope) / max(abs(slope), abs(found))
        if found == 0.0:
            lists["blocked"].append(name)
        elif error > _TOLERANCE[dtype]:
            lists["wrong"].append(name)
        largest = max(largest, error)
    return GradientCheck(
        num_parameters=len(named),
        blocked=len(lists["blocked"]),
        wrong=len(lists["wrong"]),
        largest_error=largest,
        unused_matrices=len(lists["matrix"]),
        unused_others=len(lists["other"]),
        frozen=len(frozen),
        precision="float64" if dtype == torch.float64 else "float32",
        first_blocked=_first(lists["blocked"]),
        first_wrong=_first(lists["wrong"]),
        first_unused=_first(lists["matrix"]),
        first_frozen=_first(frozen),
    )


_TOLERANCE = {torch.float64: 1e-2, torch.float32: 0.25}
"""A kink within the step (ReLU, clamp) moves a slope by less; a cut path moves it by more."""


def _widen(probe: Probe, model: nn.Module, batch: Batch) -> torch.dtype:
    """Turn the model into float64 if its loss runs that way; return the precision it has now."""
    model.double()
    try:
        with torch.no_grad():
            program_loss(probe, model, batch)
    except SubjectError:
        model.float()
        return torch.float32
    return torch.float64


def _slope(
    probe: Probe,
    model: nn.Module,
    batch: Batch,
    parameter: Tensor,
    direction: Tensor,
    dtype: torch.dtype,
) -> float:
    """Central difference of the loss along `direction` of one parameter."""
    finite = parameter.detach()[torch.isfinite(parameter.detach())]
    size = float(finite.abs().mean()) if finite.numel() else 1.0
    width = STEP[dtype] * max(size, 1e-2)
    kept = parameter.detach().clone()
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.copy_(kept + sign * width * direction)
            torch.manual_seed(probe.seed)
            losses.append(float(program_loss(probe, model, batch)))
        parameter.copy_(kept)
    return (losses[0] - losses[1]) / (2 * width)


def _first(names: list[str]) -> str:
    return names[0] if names else ""
