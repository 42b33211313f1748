"""Faults of single lines of both xLSTM cells: stabiliser, normaliser, gates, step form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_modules
from tasks.faults.written_out import WrittenOutMLSTM, WrittenOutSLSTM
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.cells import MLSTMState, SLSTMState
from xlstm_model.layers import CausalConv1d, FeatureNorm


class _LastGateScales(WrittenOutSLSTM):
    def stabiliser(self, carried: Tensor, igate: Tensor) -> Tensor:
        return igate


class _LowestScales(WrittenOutSLSTM):
    def stabiliser(self, carried: Tensor, igate: Tensor) -> Tensor:
        return torch.minimum(carried, igate)


class _ScaleFromZero(WrittenOutSLSTM):
    def begin(self, gates_preact: Tensor, state: SLSTMState | None) -> SLSTMState:
        first = super().begin(gates_preact, state)
        return first if state is not None else first._replace(m=torch.zeros_like(first.m))


class _BiasIgnored(WrittenOutSLSTM):
    def step(self, gates_preact: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        preact = gates_preact + self.recurrent(state.h)
        return self.update(*preact.unbind(1), state)


class _OutputFedBackDetached(WrittenOutSLSTM):
    def between(self, state: SLSTMState) -> SLSTMState:
        return state._replace(h=state.h.detach())


class _HeadsRolled(WrittenOutSLSTM):
    def recurrent(self, h: Tensor) -> Tensor:
        return torch.einsum("bhp,hpgo->bgho", h, self.recurrent_weight.roll(1, 0))


class _NormaliserPlusOne(WrittenOutSLSTM):
    def output(self, ogate: Tensor, c: Tensor, n: Tensor) -> Tensor:
        return ogate * c / (n + 1)


class _SignKept(WrittenOutMLSTM):
    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return torch.maximum((q * n).sum(-1), (-m).exp())


class _BoundOne(WrittenOutMLSTM):
    def denominator(self, q: Tensor, n: Tensor, m: Tensor) -> Tensor:
        return (q * n).sum(-1).abs().clamp(min=1)


class _KeysOfLengthOne(WrittenOutMLSTM):
    def scaled(self, k: Tensor) -> Tensor:
        return F.normalize(k, dim=-1)


class _StepOff(MLSTMRecurrence):
    def step(self, *inputs: Tensor) -> tuple[Tensor, MLSTMState]:
        h, state = super().step(*inputs)
        return 1.02 * h, state


class _TapsReversed(CausalConv1d):
    def _convolve(self, x: Tensor, state: Tensor) -> Tensor:
        history = torch.cat([state, x], dim=1).transpose(1, 2)
        taps = self.weight.flip(-1)
        return F.conv1d(history, taps, self.bias, groups=self.channels).transpose(1, 2)


class _NormLeftOut(FeatureNorm):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.weight)


def _fault(
    id: str, title: str, expected: str, stages: str, kind: type, wrong: type, model: str
) -> Fault:
    def plant(subject: Subject) -> Subject:
        return change_modules(subject, kind, wrong)

    apply: Callable[[Subject], Subject] = plant
    where, models = at(*stages.split()), frozenset({model})
    return Fault(id, title, "xlstm", "class of bugs", asks(expected), where, apply, models=models)


_S, _M = SLSTMRecurrence, MLSTMRecurrence
CELL, STABLE = "X10", "X10 X15 G22"

FAULTS = (
    _fault(
        "scale_of_last_gate",
        "the stabiliser is the input gate alone",
        STABLE,
        "cell numeric",
        _S,
        _LastGateScales,
        "slstm",
    ),
    _fault(
        "scale_lowest",
        "the stabiliser is the minimum where it should be the maximum",
        STABLE,
        "cell numeric",
        _S,
        _LowestScales,
        "slstm",
    ),
    _fault(
        "scale_from_zero",
        "the stabiliser starts at zero",
        f"{STABLE} X8",
        "cell numeric state",
        _S,
        _ScaleFromZero,
        "slstm",
    ),
    _fault(
        "cell_bias_ignored",
        "gate biases are not added",
        "X10 G15",
        "cell gradient_flow",
        _S,
        _BiasIgnored,
        "slstm",
    ),
    _fault(
        "output_fed_back_detached",
        "the output that is fed back is detached",
        "G15 X11",
        "gradient_flow",
        _S,
        _OutputFedBackDetached,
        "slstm",
    ),
    _fault(
        "heads_rolled",
        "recurrent weights are those of the next head",
        CELL,
        "cell",
        _S,
        _HeadsRolled,
        "slstm",
    ),
    _fault(
        "normaliser_plus_one",
        "one is added to the normaliser",
        CELL,
        "cell",
        _S,
        _NormaliserPlusOne,
        "slstm",
    ),
    _fault(
        "bound_without_abs",
        "the normaliser is bounded without taking its absolute value",
        CELL,
        "cell",
        _M,
        _SignKept,
        "mlstm",
    ),
    _fault(
        "bound_not_scaled",
        "the bound of the normaliser is one whatever the stabiliser",
        CELL,
        "cell",
        _M,
        _BoundOne,
        "mlstm",
    ),
    _fault(
        "keys_of_length_one",
        "keys are normalised to length one",
        CELL,
        "cell",
        _M,
        _KeysOfLengthOne,
        "mlstm",
    ),
    _fault(
        "step_form_differs",
        "the step form is two percent off the form for whole sequences",
        "X8 X10 X13",
        "state cell",
        _M,
        _StepOff,
        "mlstm",
    ),
    _fault(
        "taps_reversed",
        "the convolution applies its taps in reverse",
        CELL,
        "cell",
        CausalConv1d,
        _TapsReversed,
        "xlstm",
    ),
    _fault(
        "norm_left_out",
        "block norms scale and do not normalise",
        CELL,
        "cell",
        FeatureNorm,
        _NormLeftOut,
        "xlstm",
    ),
)
