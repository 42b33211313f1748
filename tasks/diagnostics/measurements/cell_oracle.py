"""Every recurrent block beside its published equations, in float64, on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from tasks.diagnostics.declared import Declared
from tasks.diagnostics.measurements import published_blocks as blocks
from tasks.diagnostics.measurements import published_equations as eq
from tasks.diagnostics.measurements.blocks import first_tensor
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from xlstm_model.blocks import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock

BLOCKS: tuple[tuple[type[nn.Module], Callable], ...] = (
    (MLSTMBlock, blocks.mlstm_block),
    (SLSTMBlock, blocks.slstm_block),
    (MLSTMLargeBlock, blocks.mlstm_large_block),
)


OPENED = 10.0
"""Raises input gates, which start at -10 in the large block, so that the normaliser counts."""

EMPTY = -60.0
"""Logarithm of a normaliser that is next to nothing even in float64."""


@dataclass(frozen=True)
class CellOracle:
    """Differences between blocks and their equations."""

    largest_error: float = quantity("share of the block's output, largest over blocks")
    num_blocks: int = quantity("blocks compared")
    precision: str = quantity("precision of the comparison")
    worst_block: str = ""
    problem: str = ""


def measure(probe: Probe) -> CellOracle:
    """Catch what goes into and comes out of every block, and recompute it.

    Once with the gates as they start, and once with input gates wide open: which terms of a
    normaliser count depends on them.
    """
    usual, wide = (_compare(probe, shift) for shift in (0.0, OPENED))
    return usual if _size(usual.largest_error) >= _size(wide.largest_error) else wide


def _size(error: float) -> float:
    """What is not a number is the worst there can be."""
    return float("inf") if error != error else error


def _compare(probe: Probe, shift: float) -> CellOracle:
    batch = _unpadded(probe.batch(rows=3, positions=10))
    model = probe.model()
    shake_weights(model, probe.seed)
    _start_at_zero(model)
    _open_input_gates(model, shift)
    known = [(n, m) for n, m in model.named_modules() if _form(m) is not None]
    if not known:
        _refuse(model)
    precision = "float64"
    try:
        calls = _watch(probe, model.double(), known, batch)
    except SubjectError:
        calls, precision = _watch(probe, model.float(), known, batch), "float32"
    if not calls:
        raise NotMeasuredError("a recurrent block that runs in a forward pass")
    errors = {}
    for name, (module, x, y) in calls.items():
        errors[name] = _error(module, x, y, batch, probe.subject.declared)
    worst = max(errors, key=lambda name: _size(errors[name][0]))
    return CellOracle(
        largest_error=errors[worst][0],
        num_blocks=len(errors),
        worst_block=worst,
        problem=errors[worst][1],
        precision=precision,
    )


def _unpadded(batch: Batch) -> Batch:
    """Cut padding off that stands before the events: equations start at the first one."""
    if bool(batch.mask[:, 0].all()):
        return batch
    width = batch.item_ids.shape[1]
    return batch.columns(slice(width - max(1, int(batch.lengths.min())), width))


def _start_at_zero(model: nn.Module) -> None:
    """The published equations start from an empty memory; learned starts are set to that."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            own = name.rpartition(".")[2]
            if own in ("initial_h", "initial_c", "initial_n", "initial_log_n"):
                parameter.fill_(EMPTY if own == "initial_log_n" else 0.0)


def _open_input_gates(model: nn.Module, shift: float) -> None:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, MLSTMBlock | MLSTMLargeBlock):
                module.igate.bias += shift


def _form(module: nn.Module) -> Callable | None:
    if isinstance(module, nn.LSTM | nn.GRU):
        # Those that read both ways or project their state have no form here.
        plain = not module.bidirectional and not getattr(module, "proj_size", 0)
        return _torch_recurrence if plain else None
    return next((form for kind, form in BLOCKS if isinstance(module, kind)), None)


def _refuse(model: nn.Module) -> None:
    names = sorted({type(m).__name__ for m in model.modules()})
    recurrent = [n for n in names if "lstm" in n.lower() or "gru" in n.lower()]
    if recurrent:
        raise NotMeasuredError(f"published equations for {', '.join(recurrent[:4])}")
    raise NotApplicableError(f"no recurrent cell among {', '.join(names[:8])}")


def _watch(
    probe: Probe, model: nn.Module, known: list[tuple[str, nn.Module]], batch: Batch
) -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """Return module, input and output of each known block's first call."""
    calls: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            given, result = (first_tensor(_unpacked(module, part)) for part in (args, output))
            if name not in calls and given is not None and result is not None:
                calls[name] = (module, given.detach().clone(), result.detach().clone())

        return hook

    handles = [m.register_forward_hook(keep(name), with_kwargs=True) for name, m in known]
    try:
        with torch.no_grad():
            probe.logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _unpacked(module: nn.Module, value: Any) -> Any:
    """Return the padded tensor of a packed sequence at the front of arguments or results."""
    first = value[0] if isinstance(value, tuple) and value else None
    if not isinstance(first, PackedSequence):
        return value
    return pad_packed_sequence(first, batch_first=module.batch_first)[0]


def _error(
    module: nn.Module, x: Tensor, y: Tensor, batch: Batch, declared: Declared
) -> tuple[float, str]:
    """Relative difference at real positions, and what is wrong where the weights do not fit."""
    weights = {n: p.detach().double() for n, p in module.named_parameters()}
    try:
        with torch.no_grad():
            if isinstance(module, nn.LSTM | nn.GRU):
                expected = _torch_recurrence(module, x.double(), weights)
            else:
                expected = _form(module)(x.double(), weights, module.num_heads, declared)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        # The equations are written for the published shapes of weights; others are not these.
        return float("inf"), f"its weights do not have the published shapes ({error})"
    if expected.shape != y.shape:
        return float("inf"), f"its output has shape {tuple(y.shape)}, not {tuple(expected.shape)}"
    real = batch.mask
    if tuple(y.shape[:2]) != tuple(real.shape):
        real = torch.ones(y.shape[:2], dtype=torch.bool)
    difference = (y.double() - expected)[real]
    scale = (expected - x.double())[real] if expected.shape == x.shape else expected[real]
    return float(difference.norm() / scale.norm().clamp(min=1e-12)), ""


def _torch_recurrence(module: nn.RNNBase, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    x = x if module.batch_first else x.transpose(0, 1)
    for layer in range(module.num_layers):
        form = eq.torch_lstm if isinstance(module, nn.LSTM) else eq.torch_gru
        x = form(x, weights, layer)
    return x if module.batch_first else x.transpose(0, 1)
