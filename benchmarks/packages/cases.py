"""Public packages under diagnosis, and what was verified of each red finding by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn

from benchmarks.packages import by_hand, recommenders, xlstm_packages
from benchmarks.packages.case import Case, Verified
from benchmarks.packages.reasons import (
    AFTER_PADDING,
    NUMERIC,
    PACKAGE,
    USE,
    alike,
    crash,
    faded,
    leak,
    mlstm_without_input,
    no_memory,
    padding,
    rows_mixed,
    something,
    without_input,
)
from tasks.diagnostics.own_program import OwnProgram

SHORT = {"max_seq_len": 20, "batch_size": 32}
"""Models with one row of scores per history are called once per position."""


def _case(
    distribution: str,
    module: str,
    licence: str,
    build: Callable[[int], nn.Module],
    source: str,
    *verified: Verified,
    padding_side: Literal["right", "left"] = "right",
    **declared: Any,
) -> Case:
    name = build.__name__.replace("_", "-")
    program = OwnProgram(build, padding_side=padding_side, declared=SHORT | declared)
    return Case(name, distribution, module, licence, source, program, verified)


X, R = xlstm_packages, recommenders

CASES: tuple[Case, ...] = (
    _case(
        "pyxlstm",
        "xLSTM.model",
        "MIT",
        X.pyxlstm_slstm,
        "language model of its readme, lstm_type slstm, 1 layer, 2 blocks",
        no_memory(X.pyxlstm_slstm, "sLSTM"),
    ),
    _case(
        "pyxlstm",
        "xLSTM.model",
        "MIT",
        X.pyxlstm_two_layers,
        "the same with 2 layers",
        crash(
            X.pyxlstm_two_layers,
            "the loop's counter `i` is overwritten by the input gate, and `if i < ...` asks a "
            "tensor for one truth value: no model of two layers or more runs",
            2,
            4,
        ),
    ),
    _case(
        "pyxlstm",
        "xLSTM.model",
        "MIT",
        X.pyxlstm_mlstm,
        "the same with lstm_type mlstm, 1 layer",
        no_memory(X.pyxlstm_mlstm, "mLSTM"),
    ),
    _case(
        "torchxlstm",
        "torchxlstm.xlstm",
        "MIT",
        X.torchxlstm_slstm,
        "sLSTM in place of nn.LSTM, 2 heads, 2 layers",
        without_input(),
    ),
    _case(
        "torchxlstm",
        "torchxlstm.xlstm",
        "MIT",
        X.torchxlstm_mlstm,
        "mLSTM in place of nn.LSTM, 2 heads, 2 layers",
        rows_mixed(X.torchxlstm_mlstm),
        mlstm_without_input(),
    ),
    _case(
        "torchxlstm",
        "torchxlstm.xlstm",
        "MIT",
        X.torchxlstm_xlstm,
        "xLSTM of an m and an s layer in place of nn.LSTM",
        rows_mixed(X.torchxlstm_xlstm),
        without_input(),
    ),
    _case(
        "xlstm-torch",
        "xlstm_torch",
        "MIT",
        X.xlstm_torch,
        "sLSTM in place of nn.LSTM",
        Verified(
            ("dimensions_fit",),
            PACKAGE,
            "its only module runs an example when it is imported, which multiplies (128, 64) by "
            "(1, 64): the package can't be imported",
            partial(by_hand.cannot_be_imported, "xlstm_torch.main"),
            something,
            "1 = the import raises",
        ),
    ),
    _case(
        "xlstm",
        "xlstm",
        "Apache-2.0",
        X.authors,
        "xLSTMLMModel of its readme, blocks m, s, m, backend vanilla",
        Verified(
            NUMERIC,
            PACKAGE,
            "the parallel mLSTM bounds its normaliser by exp(-m), which is infinite where all "
            "gates of a row are below -88: the result is 0, its gradient not a number",
            by_hand.authors_gate_gradient,
            something,
            "gradients of an input gate at -100 that are not finite, of 4",
        ),
    ),
    _case("recbole", "recbole", "MIT", R.recbole_gru4rec, "full_sort_predict, its settings"),
    _case("recbole", "recbole", "MIT", R.recbole_sasrec, "full_sort_predict, its settings"),
    _case("recbole", "recbole", "MIT", R.recbole_narm, "full_sort_predict, its settings"),
    _case(
        "recbole",
        "recbole",
        "MIT",
        R.recbole_stamp,
        "full_sort_predict, its settings",
        dataclasses.replace(
            padding(
                R.recbole_stamp,
                PACKAGE,
                "its initialisation overwrites the padding row of the item embedding, which never "
                "learns, and the sums over the history count it once per padded position, so that "
                "short histories lie far apart",
            ),
            questions=(*AFTER_PADDING, "state_norms_bounded"),
        ),
    ),
    _case(
        "recbole",
        "recbole",
        "MIT",
        R.recbole_nextitnet,
        "full_sort_predict, its settings",
        padding(
            R.recbole_nextitnet,
            PACKAGE,
            "it reads the last column, which is padding wherever a history is shorter than the "
            "batch, as RecBole pads on the right",
        ),
    ),
    _case("torch-rechub", "torch_rechub", "MIT", R.rechub_hstu, "HSTUModel"),
    _case(
        "torch-rechub",
        "torch_rechub",
        "MIT",
        R.rechub_gru4rec,
        "user tower, right padding",
        padding(
            R.rechub_gru4rec,
            USE,
            "it takes the GRU's last state, after whatever padding follows; with padding on the "
            "left the GRU steps over it first instead",
        ),
        faded(
            R.rechub_gru4rec,
            "the GRU forgets a history over the padding that follows: the shorter it is, the more "
            "alike are its scores; without padding they draw apart twofold over 20 events",
        ),
        alike(
            R.rechub_gru4rec,
            "items start at a standard deviation of 0.0001, next to biases hundreds of times as "
            "large, so that at the start all histories look alike",
        ),
        normalized_scores=True,
    ),
    _case(
        "torch-rechub",
        "torch_rechub",
        "MIT",
        R.rechub_sasrec,
        "user tower",
        crash(
            R.rechub_sasrec,
            "`squeeze()` without a dimension drops the batch: one user alone, as in serving, "
            "can't be scored",
            1,
            8,
        ),
        alike(
            R.rechub_sasrec,
            "items start at a standard deviation of 0.0001 and positions at 1, so that at the "
            "start all histories of a length look alike",
        ),
    ),
    _case("torch-rechub", "torch_rechub", "MIT", R.rechub_stamp, "scores of all items"),
    _case(
        "torch-rechub",
        "torch_rechub",
        "MIT",
        R.rechub_narm,
        "scores of all items",
        crash(
            R.rechub_narm,
            "the mask has the width of the batch and the unpacked states that of the longest "
            "history: a batch whose last columns are padding can't be scored",
            4,
            3,
            2,
        ),
    ),
    _case(
        "rectools",
        "rectools",
        "Apache-2.0",
        R.rectools_sasrec,
        "network of SASRecModel, sessions filled up on the left as by its data preparator",
        Verified(
            ("order_and_flow",),
            PACKAGE,
            "positions count back from the end of a session: a score within a training row is made "
            "with positions that tell how many events follow; when items are recommended none do",
            partial(by_hand.by_number_to_come, R.rectools_sasrec),
            leak,
            "largest change of scores after four events when four later ones are left out, over "
            "their spread between histories",
        ),
        padding_side="left",
    ),
)
