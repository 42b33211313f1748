"""Both cells of xLSTM position by position, each part a method that a fault can get wrong.

As they stand they compute what the model's own cells compute (Beck et al. 2024, eq. 8-18, 19-27).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.cells import MLSTMState, SLSTMState


class WrittenOutSLSTM(SLSTMRecurrence):
    """The sLSTM cell as a loop over positions."""

    def forward(
        self, gates_preact: Tensor, *, mask: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, SLSTMState]:
        """Run the cell over (B, S, 4, NH, DH)."""
        state = self.begin(gates_preact, state)
        outputs = []
        for position, preact in enumerate(gates_preact.unbind(1)):
            h, after = self.step(preact, self.between(state))
            if mask is not None:
                real = mask[:, position, None, None]
                h = torch.where(real, h, 0.0)
                after = _chosen(real, after, state)
            state = after
            outputs.append(h)
        return torch.stack(outputs, dim=1), self.end(state)

    def step(self, gates_preact: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        """Run one position (B, 4, NH, DH)."""
        preact = gates_preact + self.recurrent(state.h) + self.bias.transpose(0, 1)
        return self.update(*preact.unbind(1), state)

    def begin(self, gates_preact: Tensor, state: SLSTMState | None) -> SLSTMState:
        """State before the first position of a call."""
        if state is not None:
            return state
        return self.initial_state(
            len(gates_preact), device=gates_preact.device, dtype=gates_preact.dtype
        )

    def between(self, state: SLSTMState) -> SLSTMState:
        """What becomes of the state between two positions: nothing."""
        return state

    def end(self, state: SLSTMState) -> SLSTMState:
        """What becomes of the state after a call: nothing."""
        return state

    def recurrent(self, h: Tensor) -> Tensor:
        """Share of the last output in the gates, (B, 4, NH, DH)."""
        return torch.einsum("bhp,hpgo->bgho", h, self.recurrent_weight)

    def update(
        self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: SLSTMState
    ) -> tuple[Tensor, SLSTMState]:
        """Equations of one position; every argument (B, NH, DH)."""
        log_f = F.logsigmoid(fgate)
        m = self.stabiliser(log_f + state.m, igate)
        keep, write = (log_f + state.m - m).exp(), (igate - m).exp()
        c = keep * state.c + write * self.cell_input(zgate)
        n = keep * state.n + write
        h = self.output(torch.sigmoid(ogate), c, n)
        return h, SLSTMState(h, c, n, m)

    def stabiliser(self, carried: Tensor, igate: Tensor) -> Tensor:
        """Logarithm of the scale taken out of memory and normaliser."""
        return torch.maximum(carried, igate)

    def cell_input(self, zgate: Tensor) -> Tensor:
        """What is written into the memory."""
        return torch.tanh(zgate)

    def output(self, ogate: Tensor, c: Tensor, n: Tensor) -> Tensor:
        """Output of one position."""
        return ogate * c / n


class WrittenOutMLSTM(MLSTMRecurrence):
    """The mLSTM cell as a loop over positions."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        *,
        mask: Tensor | None = None,
        state: Any = None,
    ) -> tuple[Tensor, MLSTMState]:
        """Run the cell over (B, NH, S, DH) and gates (B, NH, S)."""
        if state is None:
            state = self.initial_state(len(q), device=q.device, dtype=q.dtype)
        outputs = []
        for position in range(q.shape[2]):
            inputs = (part[:, :, position] for part in (q, k, v, igate_preact, fgate_preact))
            h, after = self.step(*inputs, state)
            if mask is not None:
                real = mask[:, position, None]
                h = torch.where(real[..., None], h, 0.0)
                after = _chosen(real, after, state)
            state = after
            outputs.append(h)
        return torch.stack(outputs, dim=2), state

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        state: MLSTMState,
    ) -> tuple[Tensor, MLSTMState]:
        """Equations of one position."""
        k = self.scaled(k)
        log_f = F.logsigmoid(fgate_preact)
        m = torch.maximum(log_f + state.m, igate_preact)
        keep = (log_f + state.m - m).exp()[..., None]
        write = (igate_preact - m).exp()[..., None]
        c = keep[..., None] * state.c + (write * k)[..., None] * v[..., None, :]
        n = keep * state.n + write * k
        h = (q[..., None] * c).sum(-2) / self.denominator(q, n, m)[..., None]
        return h, MLSTMState(c, n, m)

    def scaled(self, k: Tensor) -> Tensor:
        """Keys divided by the root of their width."""
        return k / math.sqrt(k.shape[-1])

    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        """What the read memory is divided by, (B, NH)."""
        return torch.maximum((q * n).sum(-1).abs(), (-m).exp())


def _chosen(real: Tensor, after: Any, before: Any) -> Any:
    """Take each field from `after` in real rows and from `before` in padded ones."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(real.reshape(real.shape + (1,) * (new.dim() - real.dim())), new, old)

    return type(after)(*(choose(new, old) for new, old in zip(after, before, strict=True)))
