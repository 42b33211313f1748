"""The program's gradient beside finite differences of its own loss, one parameter at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

STEP = {torch.float64: 1e-5, torch.float32: 1e-2}
"""Half width of the central difference, as a share of the parameter's size."""

CLEAR = 1e3
"""A slope this many times the rounding of its difference is known to three digits."""


@dataclass(frozen=True)
class GradientCheck:
    """Directional derivatives that autograd and finite differences disagree on."""

    num_parameters: int = quantity("trainable parameter tensors")
    blocked: int = quantity("parameters the loss depends on, with a gradient of zero or none")
    wrong: int = quantity("parameters whose gradient is not the slope of the loss")
    largest_error: float = quantity("share of the slope")
    unused_matrices: int = quantity("weight matrices the loss does not depend on")
    unused_recurrent: int = quantity(
        "weights of recurrent or attention layers that run and do not reach the loss"
    )
    unused_others: int = quantity("other parameters the loss does not depend on")
    frozen: int = quantity("parameters that take no gradient")
    rough: int = quantity("parameters whose slope depends on the step, left out")
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
    model.to(probe.precision)
    longest = int((batch.item_ids != 0).sum(dim=1).max())
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    if not named:
        raise NotMeasuredError("a parameter that takes a gradient")
    torch.manual_seed(probe.seed)
    with _calls_of_sequence_layers(model) as called:
        loss = program_loss(probe, model, batch)
    grads = [None] * len(named)
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    kinds = _sort_by_slope(probe, model, batch, named, grads)
    return GradientCheck(
        num_parameters=len(named),
        blocked=len(kinds.blocked),
        wrong=len(kinds.wrong),
        largest_error=kinds.largest_error,
        unused_matrices=len(kinds.unused_matrices),
        # Recurrent weights read the state before: a history of one event has none.
        unused_recurrent=sum(name.rpartition(".")[0] in called for name in kinds.unused_matrices)
        if longest > 1
        else 0,
        unused_others=len(kinds.unused_others),
        frozen=len(frozen),
        rough=len(kinds.rough),
        precision="float64" if probe.precision == torch.float64 else "float32",
        first_blocked=_first(kinds.blocked),
        first_wrong=_first(kinds.wrong),
        first_unused=_first(kinds.unused_matrices),
        first_frozen=_first(frozen),
    )


@dataclass
class _Kinds:
    """Names of the parameters that are not as they should be, by what their slopes show."""

    blocked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unused_matrices: list[str] = field(default_factory=list)
    unused_others: list[str] = field(default_factory=list)
    rough: list[str] = field(default_factory=list)
    largest_error: float = 0.0


def _sort_by_slope(
    probe: Probe,
    model: nn.Module,
    batch: Batch,
    named: Sequence[tuple[str, Tensor]],
    grads: Sequence[Tensor | None],
) -> _Kinds:
    """Compare every gradient with the slope of the loss along a random direction."""
    kinds, dtype = _Kinds(), probe.precision
    frozen_rows = _frozen_rows(model)
    generator = torch.Generator().manual_seed(probe.seed)
    for (name, parameter), gradient in zip(named, grads, strict=True):
        direction = torch.randn(parameter.shape, generator=generator).to(parameter)
        if id(parameter) in frozen_rows:
            direction[frozen_rows[id(parameter)]] = 0.0
        slope, noise, is_smooth = _slope(probe, model, batch, parameter, direction, dtype)
        if not is_smooth:
            kinds.rough.append(name)
            continue
        found = 0.0 if gradient is None else float((gradient.to_dense() * direction).sum())
        if abs(slope) <= noise and abs(found) <= noise:
            if gradient is None or not bool((gradient.to_dense() != 0).any()):
                unused = kinds.unused_matrices if parameter.ndim >= 2 else kinds.unused_others
                unused.append(name)
            continue
        error = abs(found - slope) / max(abs(slope), abs(found))
        if found == 0.0:
            kinds.blocked.append(name)
        elif error > _TOLERANCE[dtype]:
            kinds.wrong.append(name)
        kinds.largest_error = max(kinds.largest_error, error)
    return kinds


_TOLERANCE = {torch.float64: 1e-2, torch.float32: 0.25}
"""A kink within the step (ReLU, clamp) moves a slope by less; a cut path moves it by more."""


def _frozen_rows(model: nn.Module) -> dict[int, int]:
    """Rows that embeddings keep from learning, by the id of their weight: padding's."""
    return {
        id(module.weight): module.padding_idx
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }


def _slope(
    probe: Probe,
    model: nn.Module,
    batch: Batch,
    parameter: Tensor,
    direction: Tensor,
    dtype: torch.dtype,
) -> tuple[float, float, bool]:
    """Slope of the loss along `direction` of one parameter, by a central difference.

    Returns:
        The slope; the size below which it is rounding; and whether a step four times smaller
        gives the same, so that it is a slope at all.
    """
    finite = parameter.detach()[torch.isfinite(parameter.detach())]
    size = float(finite.abs().mean()) if finite.numel() else 1.0
    width = STEP[dtype] * max(size, 0.1)
    kept = parameter.detach().clone()
    slopes = []
    with torch.no_grad():
        for step in (width, width / 4):
            losses = []
            for sign in (1, -1):
                parameter.copy_(kept + sign * step * direction)
                torch.manual_seed(probe.seed)
                losses.append(float(program_loss(probe, model, batch)))
            slopes.append((losses[0] - losses[1]) / (2 * step))
        parameter.copy_(kept)
    noise = CLEAR * torch.finfo(dtype).eps * max(abs(losses[0]), 1e-3) / width
    room = _TOLERANCE[dtype] * max(map(abs, slopes)) + noise
    return slopes[0], noise, abs(slopes[0] - slopes[1]) <= room


@contextmanager
def _calls_of_sequence_layers(model: nn.Module) -> Iterator[set[str]]:
    """Collect the names of the layers reading a sequence that run; no head of a task is one."""
    called: set[str] = set()
    kinds = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _first(names: list[str]) -> str:
    return names[0] if names else ""
