"""Explicit states: do pieces give the whole, is the first state clean and one per sample?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotApplicableError, SubjectError
from tasks.diagnostics.question import quantity

SHORT, USUAL, LONG = 5, 9, 48
"""Positions: as many as a history has, so that what happens after some of them shows."""


@dataclass(frozen=True)
class StateForms:
    """What recurrent parts say about their states; the worst over all such parts."""

    num_parts: int = quantity("parts with explicit states")
    split_error: float = quantity("standard deviations of the output, two pieces against the whole")
    step_error: float | None = quantity(
        "standard deviations of the output, steps against the whole"
    )
    padded_error: float | None = quantity(
        "standard deviations of the output: after a padded history against one without padding"
    )
    shared_states: int = quantity("state tensors without one entry per sample")
    unclean_states: int = quantity("first states that are neither 0, -inf nor a parameter")
    mutated: int = quantity("states that a step changed in place")
    first_problem: str = ""


def measure(probe: Probe) -> StateForms:
    """Try every outermost part that takes and returns a state.

    Such parts are `nn.RNNBase` modules, and modules with `initial_state` and a `forward` that
    takes `state`.
    """
    if probe.subject.declared.task != "next_item":
        raise NotApplicableError("a model that reads both ways, by declaration, has no state")
    model = probe.model()
    shake_weights(model, probe.seed)
    parts = list(_parts(model))
    if not parts:
        raise NotApplicableError("no part of the model takes and returns a state")
    results = [_try(probe, name, module) for name, module in parts]
    steps = [r.step_error for r in results if r.step_error is not None]
    padded = [r.padded_error for r in results if r.padded_error is not None]
    return StateForms(
        num_parts=len(results),
        split_error=largest([r.split_error for r in results]),
        step_error=largest(steps) if steps else None,
        padded_error=largest(padded) if padded else None,
        shared_states=sum(r.shared_states for r in results),
        unclean_states=sum(r.unclean_states for r in results),
        mutated=sum(r.mutated for r in results),
        first_problem=next((r.first_problem for r in results if r.first_problem), ""),
    )


def _parts(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        full = f"{prefix}{name}"
        if isinstance(child, nn.RNNBase) or (
            hasattr(child, "initial_state") and hasattr(child, "embedding_dim")
        ):
            yield full, child
        else:
            yield from _parts(child, f"{full}.")


def _try(probe: Probe, name: str, module: nn.Module) -> StateForms:
    run = _run_rnn if isinstance(module, nn.RNNBase) else _run_own
    width = module.input_size if isinstance(module, nn.RNNBase) else module.embedding_dim
    longest = probe.subject.declared.max_seq_len
    length = min(LONG, longest) if longest >= SHORT else USUAL
    x = torch.randn(3, length, width, generator=torch.Generator().manual_seed(probe.seed))
    try:
        with torch.no_grad():
            whole, _ = run(module, x, None)
            first, state = run(module, x[:, :4], None)
            second, _ = run(module, x[:, 4:], state)
            unit = float(whole.std(correction=0)) or 1.0
            split = float((torch.cat([first, second], dim=1) - whole).abs().max()) / unit
            step, mutated = _step_error(module, x, whole, unit)
            padded = _padded_error(module, x, unit)
            shared, unclean = _first_state(module)
    except Exception as error:
        raise SubjectError.of("logits", error) from error
    problem = ""
    if not largest([split, step or 0.0, padded or 0.0]) <= 1e-4 or shared or unclean or mutated:
        problem = f"{name} ({type(module).__name__})"
    return StateForms(1, split, step, padded, shared, unclean, mutated, problem)


def _run_rnn(module: nn.RNNBase, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    if module.batch_first:
        return module(x, state)
    y, state = module(x.transpose(0, 1), state)
    return y.transpose(0, 1), state


def _run_own(module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return module(x, state=state)


def _step_error(
    module: nn.Module, x: Tensor, whole: Tensor, unit: float
) -> tuple[float | None, int]:
    """Difference of step-by-step outputs, and the states that a step changed in place."""
    if not hasattr(module, "step") or not hasattr(module, "initial_state"):
        return None, 0
    state = module.initial_state(len(x))
    outputs, mutated = [], 0
    for position in range(x.shape[1]):
        kept = [t.clone() for t in tensors(state)]
        y, after = module.step(x[:, position], state)
        mutated += sum(not _equal(a, b) for a, b in zip(kept, tensors(state), strict=True))
        outputs.append(y)
        state = after
    return float((torch.stack(outputs, dim=1) - whole).abs().max()) / unit, mutated


def _padded_error(module: nn.Module, x: Tensor, unit: float) -> float | None:
    """Difference of what follows a padded history and the same history without its padding."""
    if isinstance(module, nn.RNNBase) or "mask" not in signature(module.forward).parameters:
        return None
    history, following = x[:, :-1], x[:, -1:]
    lengths = torch.tensor([history.shape[1], history.shape[1] - 3, 2])
    mask = torch.arange(history.shape[1]) < lengths[:, None]
    _, state = module(history, mask=mask, state=None)
    padded, _ = module(following, state=state)
    worst = 0.0
    for row, count in enumerate(lengths.tolist()):
        _, state = module(x[row : row + 1, :count], state=None)
        alone, _ = module(following[row : row + 1], state=state)
        worst = max(worst, float((alone[0] - padded[row]).abs().max()))
    return worst / unit


def _first_state(module: nn.Module) -> tuple[int, int]:
    """Count first states that are shared by samples, and those that are not clean."""
    if not hasattr(module, "initial_state"):
        return 0, 0
    torch.manual_seed(0)
    state = tensors(module.initial_state(3))
    torch.manual_seed(1)
    again = tensors(module.initial_state(3))
    shared = sum(t.ndim == 0 or t.shape[0] != 3 for t in state)
    learned = any("initial" in name for name, _ in module.named_parameters())
    unclean = 0
    for tensor, other in zip(state, again, strict=True):
        empty = bool(((tensor == 0) | torch.isneginf(tensor.float())).all())
        equal_samples = tensor.ndim > 0 and all(_equal(tensor[0], sample) for sample in tensor)
        allowed = empty or (learned and equal_samples and _equal(tensor, other))
        unclean += not allowed
    return shared, unclean


def largest(values: list[float]) -> float:
    """Return the largest value; NaN where any is.

    >>> largest([1.0, float("nan"), 2.0])
    nan
    """
    return float(torch.tensor(values).max())


def tensors(state: Any) -> list[Tensor]:
    """Return the tensors of a nested state, in order."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        state = tuple(state.values())
    if isinstance(state, tuple | list):
        return [tensor for item in state for tensor in tensors(item)]
    return []


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))
