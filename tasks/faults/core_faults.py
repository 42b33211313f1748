"""Faults of the sequence model that any architecture can have: axes, leaks, dead ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import RECURRENT, Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_core, change_hidden, change_modules, change_weights

GATED = frozenset({"gru", "lstm"})


class _BatchFirstForgotten:
    """Runs over the rows of the batch as if they were positions in time."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        turned = None if mask is None else mask.transpose(0, 1)
        y, after = super().forward(x.transpose(0, 1), mask=turned)
        return y.transpose(0, 1), after


class _Reshaped:
    """Reshapes (B, S, D) to (S, B, D) where it should transpose."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        B, S, D = x.shape
        y, after = super().forward(x.reshape(S, B, D).transpose(0, 1), mask=mask, state=state)
        return y.transpose(0, 1).reshape(B, S, D), after


class Bidirectional:
    """Reads the sequence from both ends."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        y, after = super().forward(x, mask=mask, state=state)
        turned = None if mask is None else mask.flip(1)
        backward, _ = super().forward(x.flip(1), mask=turned)
        return (y + backward.flip(1)) / 2, after


class _Bypassed:
    """Computes its result and returns its input."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        _, after = super().forward(x, mask=mask, state=state)
        return x, after

    def step(self, x: Tensor, state: Any) -> Any:
        return x, super().step(x, state)[1]


class _AlwaysDropping(nn.Dropout):
    """Drops whatever the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=True)


def _in_core(wrong: type) -> Callable[[Subject], Subject]:
    return lambda subject: change_core(subject, wrong)


def _after_core(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Subject], Subject]:
    return lambda subject: change_hidden(subject, change)


def _core_weights(change: Callable[[nn.Parameter], Any]) -> Callable[[Subject], Subject]:
    def changed(model: nn.Module) -> None:
        for parameter in model.sequence_model.parameters():
            change(parameter)

    return lambda subject: change_weights(subject, changed)


def _all_matrices(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.fill_(0.02)


def _mean_over_time(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.mean(dim=1, keepdim=True).expand_as(hidden)


def _minus_batch_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden - hidden.mean(dim=0, keepdim=True)


def _now_and_then_nan(hidden: Tensor, mask: Tensor) -> Tensor:
    if torch.is_grad_enabled() and torch.rand(()) < 0.05:
        return hidden * float("nan")
    return hidden


FAULTS = (
    Fault(
        id="batch_first_wrong",
        title="the recurrence runs over the rows of the batch",
        layer="model",
        source="pytorch 1538",
        expected=asks("G11 X8 G3"),
        stages=at("batch"),
        apply=_in_core(_BatchFirstForgotten),
        models=RECURRENT,
    ),
    Fault(
        id="view_scramble",
        title="axes are reshaped where they should be transposed",
        layer="model",
        source="Lightning Bolts, batch gradient verification",
        expected=asks("G11 G3 X9"),
        stages=at("batch"),
        apply=_in_core(_Reshaped),
    ),
    Fault(
        id="bidirectional",
        title="the sequence model reads the future",
        layer="model",
        source="LLMEmb 2, SASRec without a causal mask",
        expected=asks("G11 G2"),
        stages=at("causal"),
        apply=_in_core(Bidirectional),
    ),
    Fault(
        id="hidden_mean_all",
        title="every position gets the mean over all positions",
        layer="model",
        source="styalai/xLSTM-pytorch, mean over batch and time",
        expected=asks("G11 X13"),
        stages=at("causal", "pad"),
        apply=_after_core(_mean_over_time),
    ),
    Fault(
        id="batch_norm_mix",
        title="hidden states are centred over the batch",
        layer="model",
        source="styalai/xLSTM-pytorch, mean over the batch",
        expected=asks("G11 X8"),
        stages=at("batch"),
        apply=_after_core(_minus_batch_mean),
    ),
    Fault(
        id="core_detached",
        title="the result of the sequence model is detached from the graph",
        layer="model",
        source="TrainCheck, parameters without updates",
        expected=asks("G15"),
        stages=at("gradient_flow"),
        apply=_after_core(lambda hidden, mask: hidden.detach()),
        needs={"tied": False},
    ),
    Fault(
        id="core_bypassed",
        title="the result of the sequence model is computed and not used",
        layer="model",
        source="diffusers 11903 (computed and unused)",
        expected=asks("G11 X10"),
        stages=at("core"),
        apply=_in_core(_Bypassed),
    ),
    Fault(
        id="core_zeroed",
        title="the result of the sequence model is multiplied by zero",
        layer="model",
        source="DEForm, removed residual stream",
        expected=asks("G22 X22"),
        stages=at("core"),
        apply=_after_core(lambda hidden, mask: hidden * 0),
    ),
    Fault(
        id="rnn_weights_zero",
        title="all weights of the sequence model start at zero",
        layer="model",
        source="DEForm, zeroed queries, keys and values",
        expected=asks("G10 G15 X11 X22 G11"),
        stages=at("core"),
        apply=_core_weights(lambda parameter: parameter.zero_()),
    ),
    Fault(
        id="rnn_weights_huge",
        title="all weights of the sequence model start 60 times too large",
        layer="model",
        source="DeepCrime, weight initialisation",
        expected=asks("G9 X23"),
        stages=at("activation"),
        apply=_core_weights(lambda parameter: parameter.mul_(60)),
        models=GATED,
    ),
    Fault(
        id="const_init",
        title="every matrix starts as a constant",
        layer="model",
        source="NeuraLint, constant initialisation",
        expected=asks("G10 G22 X22"),
        stages=at("core", "embedding", "gradient_flow"),
        apply=lambda subject: change_weights(subject, _all_matrices),
    ),
    Fault(
        id="relu_dead",
        title="a ReLU after the sequence model never opens",
        layer="model",
        source="AutoTrainer, dying ReLU",
        expected=asks("G9"),
        stages=at("activation", "core"),
        apply=_after_core(lambda hidden, mask: torch.relu(hidden - 50)),
    ),
    Fault(
        id="saturating_act",
        title="a tanh after the sequence model is saturated everywhere",
        layer="model",
        source="SageMaker Debugger, saturated activation",
        expected=asks("G9 X23"),
        stages=at("activation"),
        apply=_after_core(lambda hidden, mask: torch.tanh(500 * hidden)),
    ),
    Fault(
        id="dropout_in_eval",
        title="dropout is on at evaluation",
        layer="model",
        source="TheDeepChecker, switch of mode",
        expected=asks("G19"),
        stages=at("stochastic"),
        apply=lambda subject: change_modules(subject, nn.Dropout, _AlwaysDropping),
    ),
    Fault(
        id="nan_inject",
        title="a training pass in twenty gives NaN",
        layer="model",
        source="DeepLocalize, numerical errors",
        expected=asks("G22 G20 X20"),
        stages=at("symptom", "numeric"),
        apply=_after_core(_now_and_then_nan),
        severity=0.05,
        effort="after_training",
    ),
)
