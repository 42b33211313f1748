"""How open gates are: recomputed from what the cells are given, unit by unit and step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence

CLOSED = 0.01
OPEN = 0.9999
"""Where a sigmoid has lost all but 1e-4 of its slope: such a gate can hardly learn to close."""

FLAT = 1e-3
"""Slope of a sigmoid, 0.25 at most, below which a gate hardly learns: beyond 0.999 or 0.001."""

GatesOfCall = Callable[[nn.Module, tuple, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class Gates:
    """Shares over units and steps; the worst cell of each kind."""

    forget_closed: float = quantity("share of forget-gate values below 0.01")
    output_closed: float | None = quantity("share of output-gate values below 0.01")
    forget_open: float = quantity("share of forget-gate values above 0.9999")
    flat: float = quantity("share of sigmoid gates with a slope below 0.001")
    stuck: float = quantity("share of values with forget above 0.9999 and input below 0.01")
    lowest_preactivation: float = quantity("smallest gate pre-activation")
    highest_preactivation: float = quantity("largest gate pre-activation")
    num_cells: int = quantity("cells")
    worst_cell: str = ""


def measure(probe: Probe) -> Gates:
    """Watch every cell in one forward pass, with trained weights where there are any."""
    batch = probe.all_batches[0].rows(slice(0, 16))
    model = probe.model(trained=probe.subject.trained is not None)
    calls = watch_gates(probe, model, batch)
    shares = {name: _shares(gates, batch.mask) for name, gates in calls.items()}
    worst = max(shares, key=lambda name: max(v for v in shares[name].values() if v is not None))
    raw = torch.cat([t.flatten() for gates in calls.values() for t in gates.values()])
    outputs = [s["output_closed"] for s in shares.values() if s["output_closed"] is not None]
    return Gates(
        forget_closed=max(s["forget_closed"] for s in shares.values()),
        output_closed=max(outputs) if outputs else None,
        forget_open=max(s["forget_open"] for s in shares.values()),
        flat=max(s["flat"] for s in shares.values()),
        stuck=max(s["stuck"] for s in shares.values()),
        lowest_preactivation=float(raw.min()),
        highest_preactivation=float(raw.max()),
        num_cells=len(shares),
        worst_cell=worst,
    )


def watch_gates(probe: Probe, model: nn.Module, batch: Batch) -> dict[str, dict[str, Tensor]]:
    """Return pre-activations per cell: name -> gates, each (B, S, units).

    Gates are i, f and o, as far as the cell has them; a GRU's update and reset gates are u and r.

    Raises:
        NotApplicableError: The model has no gated cell that is known here.
        NotMeasuredError: A cell was called in an unknown way.
    """
    found: dict[str, dict[str, Tensor]] = {}

    def keep(name: str, gates_of: GatesOfCall) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            if name not in found:
                found[name] = gates_of(module, args, output)

        return hook

    handles = []
    for name, module in model.named_modules():
        gates_of = _reader(module)
        if gates_of is not None:
            handles.append(module.register_forward_hook(keep(name, gates_of)))
    if not handles:
        raise NotApplicableError("the model has no mLSTM, sLSTM, LSTM or GRU cell with known gates")
    try:
        with torch.no_grad():
            probe.logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    shape = tuple(batch.mask.shape)
    usable = {
        name: gates
        for name, gates in found.items()
        if all(tuple(t.shape[:2]) == shape for t in gates.values())
    }
    if not usable:
        raise NotMeasuredError("a gated cell that runs over the whole batch in one call")
    return usable


def _reader(module: nn.Module) -> GatesOfCall | None:
    if isinstance(module, MLSTMRecurrence):
        return _mlstm
    if isinstance(module, SLSTMRecurrence) and module.cell != "rnn":
        return _slstm
    if isinstance(module, nn.LSTM) and module.num_layers == 1 and not module.bidirectional:
        return _lstm
    if isinstance(module, nn.GRU) and module.num_layers == 1 and not module.bidirectional:
        return _gru
    return None


def _mlstm(module: nn.Module, args: tuple, output: Any) -> dict[str, Tensor]:
    """Gates are inputs four and five, (B, NH, S)."""
    return {name: args[place].transpose(1, 2).double() for name, place in (("i", 3), ("f", 4))}


def _slstm(module: nn.Module, args: tuple, output: Any) -> dict[str, Tensor]:
    """Given pre-activations plus what the last output and the bias add; (B, S, G, NH, DH)."""
    given, h = args[0].double(), output[0].double()
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)
    recurrent = torch.einsum("bsnp,npgo->bsgno", before, module.recurrent_weight.double())
    raw = given + recurrent + module.bias.double().transpose(0, 1)
    i, f, _, o = raw.flatten(3).unbind(2)
    return {"i": i, "f": f, "o": o}


def _lstm(module: nn.LSTM, args: tuple, output: Any) -> dict[str, Tensor]:
    i, f, _, o = _raw_gates(module, args, output).chunk(4, dim=-1)
    return {"i": i, "f": f, "o": o}


def _raw_gates(module: nn.RNNBase, args: tuple, output: Any) -> Tensor:
    """Everything added up before the gates, with the last output as it came: (B, S, gates)."""
    x, h = args[0].double(), output[0].double()
    if not module.batch_first:
        x, h = x.transpose(0, 1), h.transpose(0, 1)
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)
    raw = x @ module.weight_ih_l0.double().T + before @ module.weight_hh_l0.double().T
    if module.bias:
        raw = raw + module.bias_ih_l0.double() + module.bias_hh_l0.double()
    return raw


def _gru(module: nn.GRU, args: tuple, output: Any) -> dict[str, Tensor]:
    raw = _raw_gates(module, args, output)
    r, u, _ = raw.chunk(3, dim=-1)
    return {"r": r, "u": u}


def _shares(gates: dict[str, Tensor], mask: Tensor) -> dict[str, float | None]:
    squashed = torch.cat([torch.sigmoid(gates[g])[mask].flatten() for g in gates if g != "i"])
    flat = _mean(squashed * (1 - squashed) < FLAT)
    if "f" not in gates:
        return {
            "forget_closed": 0.0,
            "output_closed": None,
            "forget_open": 0.0,
            "flat": flat,
            "stuck": 0.0,
        }
    forget, write = torch.sigmoid(gates["f"])[mask], gates["i"][mask]
    # e^i and the logistic function of i agree to 1 % where they are below 0.01.
    closed_input = torch.exp(write.clamp(max=0.0)) < CLOSED
    output = torch.sigmoid(gates["o"])[mask] if "o" in gates else None
    return {
        "forget_closed": _mean(forget < CLOSED),
        "output_closed": None if output is None else _mean(output < CLOSED),
        "forget_open": _mean(forget > OPEN),
        "flat": flat,
        "stuck": _mean((forget > OPEN) & closed_input),
    }


def _mean(condition: Tensor) -> float:
    return float(condition.double().mean())
