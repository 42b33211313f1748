"""Run a cell once more, step by step, to see its gates and states at every position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.state import replace_samples

if TYPE_CHECKING:
    from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
    from xlstm_model.recorder import BlockRecord


def trace_mlstm(
    cell: MLSTMRecurrence, args: tuple[Tensor, ...], record: BlockRecord, state: Any
) -> None:
    """Fill gates and norms of an mLSTM block's record.

    Args:
        cell: The recurrence that ran.
        args: q, k, v (B, NH, S, DH) and gate pre-activations (B, NH, S) it was given.
        record: Filled in place; its mask says which positions are real.
        state: The state it was given, if any.
    """
    inputs = [tensor.detach() for tensor in args]
    state = _start(cell, inputs[0], state)
    steps = (tuple(t[:, :, s] for t in inputs) for s in range(inputs[0].shape[2]))
    gates, norms = [], []
    for position, (before, h, after) in enumerate(_replay(cell, steps, state, record.mask)):
        log_i = record.preact["i"][:, position]
        log_f = F.logsigmoid(record.preact["f"][:, position])
        scaled = _scaled(log_i, log_f, before.m, after.m)
        gates.append(scaled if cell.normalizer else (log_i.exp(), log_f.exp()))
        norms.append(_norms(after.c.flatten(2), after.n, _finite(after.m), h))
    record.gates = _stacked("if", gates)
    record.norms = _stacked("cnmh", norms)


def trace_slstm(
    cell: SLSTMRecurrence, args: tuple[Tensor, ...], record: BlockRecord, state: Any
) -> None:
    """Fill pre-activations, gates and norms of an sLSTM block's record.

    Args:
        cell: The recurrence that ran.
        args: Gate pre-activations (B, S, G, NH, DH) it was given, before the recurrent part.
        record: Filled in place; its mask says which positions are real.
        state: The state it was given, if any.
    """
    gates_preact = args[0].detach()
    state = _start(cell, gates_preact, state)
    names = "z" if cell.num_gates == 1 else "ifzo"
    steps = ((preact,) for preact in gates_preact.unbind(1))
    preacts, gates, norms = [], [], []
    for position, (before, h, after) in enumerate(_replay(cell, steps, state, record.mask)):
        recurrent = torch.einsum("bhp,hpgo->bgho", before.h, cell.recurrent_weight)
        raw = gates_preact[:, position] + recurrent + cell.bias.transpose(0, 1)
        preacts.append(raw.unbind(1))
        values = dict(zip(names, raw.unbind(1), strict=True))
        active = {"z": values["z"].tanh()}
        if names == "ifzo":
            sigmoid = cell.gate == "sigmoid" or cell.cell == "lstm"
            log_i = F.logsigmoid(values["i"]) if sigmoid else values["i"]
            log_f = F.logsigmoid(values["f"])
            scaled = (
                _scaled(log_i, log_f, before.m, after.m)
                if cell.cell == "slstm"
                else (log_i.exp(), log_f.exp())
            )
            active |= dict(zip("if", scaled, strict=True)) | {"o": values["o"].sigmoid()}
        gates.append(tuple(active[name] for name in names))
        norms.append(_norms(after.c, after.n, _finite(after.m).mean(dim=-1), h))
    record.preact = _stacked(names, preacts)
    record.gates = _stacked(names, gates)
    record.norms = _stacked("cnmh", norms)


def _start(cell: Any, like: Tensor, state: Any) -> Any:
    if state is not None:
        return state
    return cell.initial_state(like.shape[0], device=like.device, dtype=like.dtype)


def _replay(cell: Any, steps: Any, state: Any, mask: Tensor) -> Iterator[tuple[Any, Tensor, Any]]:
    """State before, output and state after each position; padding leaves the state."""
    for position, inputs in enumerate(steps):
        h, after = cell.step(*inputs, state)
        after = replace_samples(after, state, ~mask[:, position])
        yield state, h, after
        state = after


def _scaled(log_i: Tensor, log_f: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Input and forget gate on the running scale; an empty memory keeps nothing."""
    return (log_i - _finite(after)).exp(), (log_f + before - _finite(after)).exp()


def _finite(m: Tensor) -> Tensor:
    """The log scale, 0 where the memory is empty or the cell has no scale."""
    return torch.where(m == float("-inf"), 0.0, m)


def _norms(c: Tensor, n: Tensor, m: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return c.norm(dim=-1), n.norm(dim=-1), m, h.norm(dim=-1)


def _stacked(names: str, rows: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    columns = zip(*rows, strict=True)
    return {name: torch.stack(column, 1) for name, column in zip(names, columns, strict=True)}
