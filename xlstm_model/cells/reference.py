"""The cells as loops over their steps: slow, readable, differentiated by autograd alone.

Every faster form is compared with these in the tests, values and gradients. They also run where
operations must stay visible: in exported programs and under function transforms.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from xlstm_model.cells.mlstm import mlstm_step
from xlstm_model.cells.slstm_step import GateKind, slstm_step
from xlstm_model.cells.states import MLSTMState, SLSTMState, empty_mlstm_state, empty_slstm_state

State = TypeVar("State", MLSTMState, SLSTMState)


def mlstm_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    *,
    state: MLSTMState | None = None,
    mask: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, MLSTMState]:
    """``mlstm_chunkwise``, position by position.

    >>> q = k = v = torch.ones(1, 1, 3, 1)
    >>> gates = torch.zeros(1, 1, 3)
    >>> mlstm_reference(q, k, v, gates, gates)[0].flatten()
    tensor([1., 1., 1.])
    """
    B, NH, S, DK = q.shape
    if state is None:
        state = empty_mlstm_state(B, NH, DK, v.shape[-1], device=q.device, dtype=q.dtype)
    outputs = []
    for t in range(S):
        inputs = [x[:, :, t] for x in (q, k, v, igate_preact, fgate_preact)]
        if mask is not None:
            inputs = [_select(mask[:, t], x, torch.zeros_like(x)) for x in inputs]
        h, after = mlstm_step(*inputs, state, eps=eps)
        if mask is not None:
            h, after = _keep_padding(mask[:, t], h, after, state)
        outputs.append(h)
        state = after
    return torch.stack(outputs, dim=2), state


def slstm_reference(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    *,
    state: SLSTMState | None = None,
    mask: Tensor | None = None,
    gate: GateKind = "exp",
) -> tuple[Tensor, SLSTMState]:
    """``slstm_sequence``, position by position.

    >>> weight, bias = torch.zeros(1, 1, 4, 1), torch.zeros(1, 4, 1)
    >>> slstm_reference(torch.zeros(1, 3, 4, 1, 1), weight, bias)[0].flatten()
    tensor([0., 0., 0.])
    """
    B, S, _, NH, DH = gates_preact.shape
    if state is None:
        state = empty_slstm_state(B, NH, DH, device=gates_preact.device, dtype=gates_preact.dtype)
    outputs = []
    for t in range(S):
        preact = gates_preact[:, t]
        if mask is not None:
            preact = _select(mask[:, t], preact, torch.zeros_like(preact))
        h, after = slstm_step(preact, recurrent_weight, bias, state, gate=gate)
        if mask is not None:
            h, after = _keep_padding(mask[:, t], h, after, state)
        outputs.append(h)
        state = after
    return torch.stack(outputs, dim=1), state


def _select(real: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(real.view(-1, *[1] * (new.dim() - 1)), new, old)


def _keep_padding(real: Tensor, h: Tensor, after: State, before: State) -> tuple[Tensor, State]:
    kept = (_select(real, new, old) for new, old in zip(after, before, strict=True))
    return _select(real, h, torch.zeros_like(h)), type(after)(*kept)
