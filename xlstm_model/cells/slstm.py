"""The sLSTM cell: sequence and step form of one recurrence."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.cells.states import SLSTMState, compute_dtype, empty_slstm_state

GateKind = Literal["exp", "sigmoid"]


def slstm_step(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: SLSTMState,
    *,
    gate: GateKind = "exp",
) -> tuple[Tensor, SLSTMState]:
    """One position."""
    dtype = compute_dtype(gates_preact.dtype)
    recurrent = torch.einsum("bhp,hpgo->bgho", state.h, recurrent_weight.to(dtype))
    raw = gates_preact.to(dtype) + recurrent + bias.to(dtype).transpose(0, 1)
    igate, fgate, zgate, ogate = raw.unbind(1)
    log_i = igate if gate == "exp" else F.logsigmoid(igate)
    carried = state.m + F.logsigmoid(fgate)
    m = torch.maximum(carried, log_i)
    keep, write = (carried - m).exp(), (log_i - m).exp()
    c = keep * state.c + write * torch.tanh(zgate)
    n = keep * state.n + write
    h = torch.sigmoid(ogate) * c / n
    return h.to(gates_preact.dtype), SLSTMState(h, c, n, m)


def slstm_sequence(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    *,
    state: SLSTMState | None = None,
    mask: Tensor | None = None,
    gate: GateKind = "exp",
) -> tuple[Tensor, SLSTMState]:
    """Whole sequence."""
    B, S, _, NH, DH = gates_preact.shape
    if state is None:
        state = empty_slstm_state(B, NH, DH, device=gates_preact.device, dtype=gates_preact.dtype)
    if mask is not None:
        gates_preact = torch.where(mask[:, :, None, None, None], gates_preact, 0.0)
    outputs = []
    for t in range(S):
        h, new = slstm_step(gates_preact[:, t], recurrent_weight, bias, state, gate=gate)
        if mask is not None:
            real = mask[:, t, None, None]
            h = torch.where(real, h, 0.0)
            new = SLSTMState(*(torch.where(real, a, b) for a, b in zip(new, state, strict=True)))
        state = new
        outputs.append(h)
    return torch.stack(outputs, dim=1), state
