"""Faults of the sLSTM cell: equations, state, gates."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tasks.diagnostics.subject import Subject
from tasks.faults import wrong_slstm as wrong
from tasks.faults.fault import WITH_SLSTM, Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_modules, change_weights
from xlstm_model.blocks.recurrence import SLSTMRecurrence

FORGET, INPUT, OUTPUT = 1, 0, 3


def _cell(kind: type) -> Callable[[Subject], Subject]:
    return lambda subject: change_modules(subject, SLSTMRecurrence, kind)


def _gate_biases(**values: float) -> Callable[[Subject], Subject]:
    place = {"igate": INPUT, "fgate": FORGET, "ogate": OUTPUT}

    def change(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, SLSTMRecurrence):
                for name, value in values.items():
                    module.bias[:, place[name]] = value

    return lambda subject: change_weights(subject, change)


def _fault(
    id: str,
    title: str,
    source: str,
    expected: str,
    stages: frozenset[str],
    apply: Callable[[Subject], Subject],
) -> Fault:
    return Fault(id, title, "xlstm", source, asks(expected), stages, apply, models=WITH_SLSTM)


REVIEW = "styalai/xLSTM-pytorch"

FAULTS = (
    _fault(
        "state_dim",
        "the state is one unit wider than the cell",
        f"{REVIEW}, state made with another width than the cell's",
        "G8 X8",
        at("dims"),
        _cell(wrong.WideState),
    ),
    _fault(
        "no_stabilizer",
        "gates are exponentiated without the stabiliser state",
        "PyxLSTM 15",
        "G22 X10 X15",
        at("numeric", "cell"),
        _cell(wrong.NoStabiliser),
    ),
    _fault(
        "state_shared",
        "the state is the mean over the batch at every step",
        f"{REVIEW}, one state for the whole batch",
        "X8 G11",
        at("batch"),
        _cell(wrong.SharedState),
    ),
    _fault(
        "state_carried",
        "the state at the end of a call starts the next call",
        f"{REVIEW}, states kept in buffers; DEForm, cached state",
        "X8 G11",
        at("state"),
        _cell(wrong.CarriedState),
    ),
    _fault(
        "time_mean_state",
        "hidden states are averaged over time",
        f"{REVIEW}, mean over positions",
        "G11 X13",
        at("causal"),
        _cell(wrong.MeanOverTime),
    ),
    _fault(
        "output_broadcast",
        "one hidden state is given to every user and position",
        f"{REVIEW}, output of shape (1, 1, D)",
        "X22 G11",
        at("causal", "batch", "core"),
        _cell(wrong.MeanOverBatchAndTime),
    ),
    _fault(
        "h0_random",
        "the first hidden state is drawn at random",
        "questionnaire X8",
        "X8",
        at("stochastic"),
        _cell(wrong.RandomStart),
    ),
    _fault(
        "no_recurrent_R",
        "the recurrent matrices are not used",
        f"{REVIEW}, recurrence replaced by a carried state",
        "X10 G11 G15",
        at("cell", "gradient_flow"),
        _cell(wrong.NoRecurrence),
    ),
    _fault(
        "gates_swapped",
        "input gate and forget gate are exchanged",
        "DEForm, exchanged projections",
        "X10",
        at("cell"),
        _cell(wrong.GatesSwapped),
    ),
    _fault(
        "reset_each_step",
        "the state is empty again at every step",
        "Hidasi and Czapp 2023, handling of hidden states",
        "G11 X8 X11",
        at("cell", "core"),
        _cell(wrong.ResetEachStep),
    ),
    _fault(
        "detach_state",
        "the state is detached at every step",
        "truncated backpropagation with a window of one",
        "X11 G15",
        at("gradient_flow"),
        _cell(wrong.DetachedState),
    ),
    _fault(
        "forget_closed",
        "forget gates start closed (bias -30)",
        "questionnaire X23",
        "X23 X11",
        at("activation", "core"),
        _gate_biases(fgate=-30.0),
    ),
    _fault(
        "gates_stuck_open",
        "forget gates start open (bias 60) and input gates closed (bias -60)",
        "questionnaire X23",
        "X23",
        at("activation", "core"),
        _gate_biases(fgate=60.0, igate=-60.0),
    ),
    _fault(
        "ogate_closed",
        "output gates start closed (bias -12)",
        "questionnaire X23",
        "X23",
        at("activation"),
        _gate_biases(ogate=-12.0),
    ),
    _fault(
        "tanh_missing_norm",
        "the output is not divided by the normaliser",
        "PyxLSTM 27",
        "X10",
        at("cell"),
        _cell(wrong.NotNormalised),
    ),
    _fault(
        "norm_of_normaliser",
        "the normaliser state goes through a LayerNorm, so it has mean zero",
        f"{REVIEW}, LayerNorm on n",
        "X10 X22",
        at("cell"),
        _cell(wrong.CentredNormaliser),
    ),
    _fault(
        "stabiliser_reset",
        "the stabiliser is forgotten between steps while memory and normaliser are kept",
        "PyxLSTM 15, handling of m",
        "X10 G15",
        at("cell", "numeric"),
        _cell(wrong.StabiliserReset),
    ),
    _fault(
        "stabiliser_detached",
        "the stabiliser is detached between steps while memory and normaliser are not",
        "PyxLSTM 15, handling of m",
        "X10 G15",
        at("gradient_flow", "cell", "numeric"),
        _cell(wrong.StabiliserDetached),
    ),
    _fault(
        "half_precision_gates",
        "gates and states are computed in half precision",
        "DEForm, lowered precision; autocast over the cell",
        "G22 X10",
        at("numeric", "cell"),
        _cell(wrong.HalfPrecision),
    ),
    _fault(
        "recurrent_dropout_each_step",
        "the recurrent state is dropped out by half with a new mask at every step",
        "keras 13221",
        "X8 G19",
        at("stochastic", "regularisation", "state"),
        _cell(wrong.DroppedState),
    ),
    _fault(
        "state_amplified",
        "the memory is doubled at every step",
        "a residual of the state with itself",
        "X19 X10",
        at("numeric", "cell"),
        _cell(wrong.Amplified),
    ),
)
