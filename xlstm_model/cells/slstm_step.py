"""The sLSTM cell, one position.

For each head and unit, with ``m`` the running stabiliser and each pre-activation ``i, f, z, o`` the
sum of an input's share, a bias and the head's recurrent weights times the previous output (Beck et
al. 2024, equations 8 to 18)::

    m_t = max(log σ(f_t) + m_{t-1}, i_t)
    c_t = exp(log σ(f_t) + m_{t-1} - m_t) c_{t-1} + exp(i_t - m_t) tanh(z_t)
    n_t = exp(log σ(f_t) + m_{t-1} - m_t) n_{t-1} + exp(i_t - m_t)
    h_t = σ(o_t) c_t / n_t

With ``gate="sigmoid"`` the input gate is σ(i) instead of exp(i).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.cells.checks import check_shape
from xlstm_model.cells.states import SLSTMState, compute_dtype
from xlstm_model.native import steps

GateKind = Literal["exp", "sigmoid"]
"""What the input gate makes of its pre-activation."""


def slstm_step(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: SLSTMState,
    *,
    gate: GateKind = "exp",
) -> tuple[Tensor, SLSTMState]:
    """Advance by one position. Pure and differentiable.

    Args:
        gates_preact: Input's share of the gates (B, 4, NH, DH), order i, f, z, o.
        recurrent_weight: (NH, DH of the previous output, 4, DH), heads do not mix.
        bias: (NH, 4, DH).
        state: State before the position; not changed.
        gate: Input gate.

    Returns:
        h (B, NH, DH) in the dtype of the gates, and the state after the position.

    Raises:
        ValueError: If a shape does not fit or the gate is unknown.

    >>> from xlstm_model.cells import empty_slstm_state
    >>> preact = torch.tensor([0.0, 0.0, 9.0, 0.0]).view(1, 4, 1, 1)
    >>> h, _ = slstm_step(
    ...     preact, torch.zeros(1, 1, 4, 1), torch.zeros(1, 4, 1), empty_slstm_state(1, 1, 1)
    ... )
    >>> round(h.item(), 3)
    0.5
    """
    check_slstm(gates_preact, recurrent_weight, bias, state, gate, ("B", "4", "NH", "DH"))
    if steps.fits(gates_preact, recurrent_weight, bias, *state):
        after = steps.slstm_step(gates_preact, recurrent_weight, bias, state, gate == "sigmoid")
        return after[0].clone(), SLSTMState(*after)
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


def check_slstm(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: SLSTMState | None,
    gate: str,
    letters: tuple[str, ...],
) -> None:
    """Refuse arguments of an sLSTM form that do not fit together.

    Args:
        gates_preact: What the caller gave, of the shape ``letters`` name.
        recurrent_weight: What the caller gave as (NH, DH, 4, DH).
        bias: What the caller gave as (NH, 4, DH).
        state: What the caller gave, or None.
        gate: What the caller chose.
        letters: Names of the dimensions of ``gates_preact``.

    Raises:
        ValueError: If a shape does not fit or the gate is unknown.
    """
    shape = tuple(gates_preact.shape)
    if len(shape) != len(letters) or shape[-3] != 4 or 0 in shape[1:]:
        raise ValueError(
            f"gates_preact has shape {shape}; expected ({', '.join(letters)}) with the gates in "
            "the order i, f, z, o and no empty dimension but B. Reshape it."
        )
    B, NH, DH = shape[0], *shape[-2:]
    check_shape("recurrent_weight", recurrent_weight, (NH, DH, 4, DH), "(NH, DH, 4, DH)")
    check_shape("bias", bias, (NH, 4, DH), "(NH, 4, DH)")
    if state is not None:
        for name, part in state._asdict().items():
            check_shape(f"state.{name}", part, (B, NH, DH), "(B, NH, DH)")
    if gate not in ("exp", "sigmoid"):
        raise ValueError(f"gate is {gate!r}; expected 'exp' or 'sigmoid'. Choose one of them.")
