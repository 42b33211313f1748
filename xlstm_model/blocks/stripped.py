"""Recurrences with xLSTM's inventions taken out, for the strip-down ladder.

They keep the states and call conventions of the cells they stand in for, so that a rung of the
ladder differs from the next in one thing only. They are written for clarity, not speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xlstm_model.cells import MLSTMState, SLSTMState

UNNORMALIZED_CHUNK = 64
"""Positions handled at once by ``mlstm_unnormalized``."""


def mlstm_unnormalized(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_igate: Tensor,
    fgate_preact: Tensor,
    *,
    state: MLSTMState,
    mask: Tensor | None = None,
) -> tuple[Tensor, MLSTMState]:
    """mLSTM without normaliser and stabiliser: ``C = σ(f) C₋ + i (k/√d) vᵀ``, ``h = Cᵀ q``.

    Beck et al. 2024, eq. 19 with n left out. Only for input gates bounded by 1, since nothing keeps
    ``C`` in range otherwise.

    Args:
        q, k: (B, NH, S, DHQK).
        v: (B, NH, S, DHV).
        log_igate: Logarithm of the input gate (B, NH, S), at most 0.
        fgate_preact: (B, NH, S), before the sigmoid.
        state: Its ``c`` is the matrix itself; ``n`` and ``m`` pass through unused.
        mask: Bool (B, S), True where real; padding leaves the state as it was.

    Returns:
        h (B, NH, S, DHV) and the state after the last real position.
    """
    log_fgate = F.logsigmoid(fgate_preact)
    if mask is not None:
        real = mask[:, None]
        log_fgate = torch.where(real, log_fgate, 0.0)
        log_igate = torch.where(real, log_igate, float("-inf"))
    c, outputs = state.c, []
    k = k * k.shape[-1] ** -0.5
    for start in range(0, q.shape[2], UNNORMALIZED_CHUNK):
        part = slice(start, start + UNNORMALIZED_CHUNK)
        decay = log_fgate[:, :, part].cumsum(-1)
        log_weight = decay[..., :, None] - decay[..., None, :] + log_igate[:, :, None, part]
        causal = torch.ones_like(log_weight, dtype=torch.bool).tril()
        weight = log_weight.masked_fill(~causal, float("-inf")).exp()
        scores = q[:, :, part] @ k[:, :, part].transpose(-1, -2) * weight
        carried = (q[:, :, part] @ c) * decay.exp()[..., None]
        outputs.append(scores @ v[:, :, part] + carried)
        keys = k[:, :, part] * weight[..., -1, :, None]
        c = decay[..., -1, None, None].exp() * c + keys.transpose(-1, -2) @ v[:, :, part]
    return torch.cat(outputs, dim=2), MLSTMState(c, state.n, state.m)


def _lstm_update(preact: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    igate, fgate, z, ogate = preact.unbind(1)
    c = fgate.sigmoid() * c + igate.sigmoid() * z.tanh()
    return ogate.sigmoid() * c.tanh(), c


def _rnn_update(preact: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return preact.squeeze(1).tanh(), c


_UPDATES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "lstm": _lstm_update,
    "rnn": _rnn_update,
}


def stripped_step(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: SLSTMState,
    *,
    cell: Literal["lstm", "rnn"],
) -> tuple[Tensor, SLSTMState]:
    """One step of a vanilla LSTM (Hochreiter and Schmidhuber 1997 with forget gate) or tanh RNN.

    With one head these are ``torch.nn.LSTM`` and ``torch.nn.RNN``; more heads make the recurrent
    weight block-diagonal.

    Args:
        gates_preact: (B, G, NH, DH), G = 4 in the order i, f, z, o for ``lstm``, 1 for ``rnn``.
        recurrent_weight: (NH, DH in, G, DH out).
        bias: (NH, G, DH).
        state: Its ``h`` and ``c`` are used; ``n`` and ``m`` pass through.
        cell: Which of the two.

    Returns:
        h (B, NH, DH) and the state after the step.
    """
    recurrent = torch.einsum("bhp,hpgo->bgho", state.h, recurrent_weight)
    h, c = _UPDATES[cell](gates_preact + recurrent + bias.transpose(0, 1), state.c)
    return h, SLSTMState(h, c, state.n, state.m)


def stripped_sequence(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    *,
    cell: Literal["lstm", "rnn"],
    state: SLSTMState,
    mask: Tensor | None = None,
) -> tuple[Tensor, SLSTMState]:
    """A whole sequence of ``stripped_step``.

    Args:
        gates_preact: (B, S, G, NH, DH).
        recurrent_weight: (NH, DH in, G, DH out).
        bias: (NH, G, DH).
        cell: Which recurrence.
        state: State before the first position.
        mask: Bool (B, S), True where real; padding leaves the state as it was and outputs zero.

    Returns:
        h (B, S, NH, DH) and the state after each sample's last real position.
    """
    outputs = []
    for position, preact in enumerate(gates_preact.unbind(1)):
        h, after = stripped_step(preact, recurrent_weight, bias, state, cell=cell)
        if mask is not None:
            real = mask[:, position, None, None]
            h = torch.where(real, h, 0.0)
            after = SLSTMState(
                torch.where(real, after.h, state.h),
                torch.where(real, after.c, state.c),
                state.n,
                state.m,
            )
        outputs.append(h)
        state = after
    return torch.stack(outputs, dim=1), state
