"""sLSTM cells with one mistake each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.faults.written_out import WrittenOutSLSTM
from xlstm_model.blocks.recurrence import SLSTMRecurrence
from xlstm_model.cells import SLSTMState


class NoStabiliser(WrittenOutSLSTM):
    """Exponentials of the gates as they are."""

    def begin(self, gates_preact: Tensor, state: Any) -> SLSTMState:
        state = super().begin(gates_preact, state)
        return state._replace(m=torch.zeros_like(state.m))

    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        write, keep = igate.exp(), fgate.exp()
        c = keep * state.c + write * torch.tanh(zgate)
        n = keep * state.n + write
        h = torch.sigmoid(ogate) * c / n
        return h, SLSTMState(h, c, n, state.m)


class SharedState(WrittenOutSLSTM):
    """The state's mean over the batch, for every row."""

    def between(self, state: SLSTMState) -> SLSTMState:
        return SLSTMState(*(part.mean(dim=0, keepdim=True).expand_as(part) for part in state))


class CarriedState(WrittenOutSLSTM):
    """Begins where the last call of as many rows ended."""

    kept: SLSTMState | None = None

    def begin(self, gates_preact: Tensor, state: Any) -> SLSTMState:
        if state is None and self.kept is not None and len(self.kept.h) == len(gates_preact):
            return self.kept
        return super().begin(gates_preact, state)

    def end(self, state: SLSTMState) -> SLSTMState:
        self.kept = SLSTMState(*(part.detach() for part in state))
        return state


class MeanOverTime(SLSTMRecurrence):
    """Hidden states averaged over the events, later ones included."""

    def forward(self, gates_preact: Tensor, **more: Any) -> Any:
        h, state = super().forward(gates_preact, **more)
        return h.mean(dim=1, keepdim=True).expand_as(h), state


class MeanOverBatchAndTime(SLSTMRecurrence):
    """Hidden states averaged over rows and events."""

    def forward(self, gates_preact: Tensor, **more: Any) -> Any:
        h, state = super().forward(gates_preact, **more)
        return h.mean(dim=(0, 1), keepdim=True).expand_as(h), state


class RandomStart(WrittenOutSLSTM):
    """A random hidden state to begin with."""

    def begin(self, gates_preact: Tensor, state: Any) -> SLSTMState:
        state = super().begin(gates_preact, state)
        return state._replace(h=torch.randn_like(state.h))


class NoRecurrence(WrittenOutSLSTM):
    """The gates never see the hidden state."""

    def recurrent(self, h: Tensor) -> Tensor:
        return super().recurrent(torch.zeros_like(h))


class GatesSwapped(WrittenOutSLSTM):
    """Input and forget gate change places."""

    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        return super().update(fgate, igate, zgate, ogate, state)


class ResetEachStep(WrittenOutSLSTM):
    """Every event begins from an empty state."""

    def between(self, state: SLSTMState) -> SLSTMState:
        return self.initial_state(len(state.h), device=state.h.device, dtype=state.h.dtype)


class DetachedState(WrittenOutSLSTM):
    """No gradient passes from event to event."""

    def between(self, state: SLSTMState) -> SLSTMState:
        return SLSTMState(*(part.detach() for part in state))


class NotNormalised(WrittenOutSLSTM):
    """The normaliser is left out."""

    def output(self, ogate: Tensor, c: Tensor, n: Tensor) -> Tensor:
        return ogate * c


class CentredNormaliser(WrittenOutSLSTM):
    """The normaliser is centred and scaled over the heads."""

    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        _, after = super().update(igate, fgate, zgate, ogate, state)
        n = F.layer_norm(after.n.flatten(1), (after.n[0].numel(),)).view_as(after.n)
        h = torch.sigmoid(ogate) * after.c / n
        return h, SLSTMState(h, after.c, n, after.m)


class StabiliserReset(WrittenOutSLSTM):
    """The stabiliser is set to zero between events; the scale of c and n is not."""

    def between(self, state: SLSTMState) -> SLSTMState:
        empty = torch.isinf(state.m)
        return state._replace(m=torch.where(empty, state.m, torch.zeros_like(state.m)))


class StabiliserDetached(WrittenOutSLSTM):
    """The stabiliser is taken out of the gradient."""

    def between(self, state: SLSTMState) -> SLSTMState:
        # The scale of c and n keeps its gradient, the logarithm that undoes it has none.
        return state._replace(m=state.m.detach())


class HalfPrecision(WrittenOutSLSTM):
    """The gates are computed in half precision."""

    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        # In half precision throughout, as under an autocast that reaches the gates.
        halves = (part.half() for part in (igate, fgate, zgate, ogate))
        lower = SLSTMState(*(part.half() for part in state))
        h, after = super().update(*halves, lower)
        return h.to(igate.dtype), SLSTMState(*(part.to(igate.dtype) for part in after))


class DroppedState(WrittenOutSLSTM):
    """Dropout on what the gates see of the state, anew at every event."""

    def recurrent(self, h: Tensor) -> Tensor:
        return super().recurrent(F.dropout(h, 0.5, self.training))


class Amplified(WrittenOutSLSTM):
    """The state grows from event to event."""

    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        doubled = state._replace(c=2 * state.c)
        return super().update(igate, fgate, zgate, ogate, doubled)


class WideState(SLSTMRecurrence):
    """A state of another width than the head."""

    def forward(self, gates_preact: Tensor, *, mask: Any = None, state: Any = None) -> Any:
        if state is None:
            shape = (len(gates_preact), self.num_heads, self.head_dim + 1)
            zeros = torch.zeros(shape, dtype=gates_preact.dtype)
            state = SLSTMState(zeros, zeros, zeros, torch.full_like(zeros, -torch.inf))
        return super().forward(gates_preact, mask=mask, state=state)
