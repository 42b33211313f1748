"""Reasons behind findings that several public models share, with the check that shows each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from benchmarks.packages import by_hand
from benchmarks.packages.case import Verified

PACKAGE, USE = "true of the package", "true of this use of it"

# What a model that can't tell users or padding apart breaks further on.
AFTER_BATCH = (
    "order_and_flow",
    "states_start_clean",
    "padding_handled",
    "variable_lengths_consistent",
    "preprocessing_same_everywhere",
    "head_reads_right_state",
    "loss_fits_task",
    "ranking_metrics_right",
)
AFTER_PADDING = (
    "padding_handled",
    "variable_lengths_consistent",
    "preprocessing_same_everywhere",
    "head_reads_right_state",
    "ranking_metrics_right",
)
NUMERIC = ("weights_move_and_stay_finite", "clipping_stops_explosions")
SPREAD = ("weights_move_and_stay_finite", "states_not_degenerate")


def nothing(value: float) -> bool:
    """Whether a number is exactly none."""
    return value == 0


def something(value: float) -> bool:
    """Whether there is any."""
    return value > 0


def leak(value: float) -> bool:
    """Whether an influence is above rounding."""
    return value > 1e-3


def rows_mixed(build: Callable[[int], nn.Module]) -> Verified:
    """Rows of a batch reach each other."""
    return Verified(
        AFTER_BATCH,
        PACKAGE,
        "mLSTMBlock divides by the largest entry of `n_t.T @ q`, a product over the rows of the "
        "batch: every user's result depends on who else is in it",
        partial(by_hand.by_other_rows, build),
        leak,
        "largest change of row 0's scores when only other rows change",
    )


def no_memory(build: Callable[[int], nn.Module], cell: str) -> Verified:
    """No cell runs."""
    return Verified(
        ("order_and_flow", "gradients_flow", "gradients_survive_time"),
        PACKAGE,
        f"{cell} zips its layers with one dropout less than there are layers; with num_layers=1 "
        "no cell runs, and the block passes its input on",
        partial(by_hand.by_past, build),
        nothing,
        "largest change of the last scores when all earlier events change",
    )


def without_input() -> Verified:
    """A step without any input gate."""
    return Verified(
        NUMERIC,
        PACKAGE,
        "sLSTM starts its stabiliser at m = 0 and not at minus infinity; where the first forget "
        "gate is far above the input gate, exp(i - m) is 0 and h = c / n is 0 / 0",
        by_hand.torchxlstm_cell_without_input,
        something,
        "values that are not finite after one step with f = 100, i = -100",
    )


def mlstm_without_input() -> Verified:
    """A step of the mLSTM without any input gate."""
    return Verified(
        NUMERIC,
        PACKAGE,
        "mLSTM starts its stabiliser at m = 0, too, and its divisor has no floor of 1: with the "
        "input gate at -120, exp(i - m) and with it n are 0, and h is 0 / 0",
        by_hand.torchxlstm_mlstm_without_input,
        something,
        "values that are not finite after one step with i = -120",
    )


def padding(build: Callable[[int], nn.Module], truth: str, claim: str) -> Verified:
    """Padding reaches the scores."""
    return Verified(
        AFTER_PADDING,
        truth,
        claim,
        partial(by_hand.by_padding, build),
        leak,
        "largest change of scores by five columns of padding, over their spread between histories",
    )


def faded(build: Callable[[int], nn.Module], claim: str) -> Verified:
    """The more padding follows, the less is left of a history."""
    return Verified(
        ("state_norms_bounded",),
        USE,
        claim,
        partial(by_hand.left_by_padding, build),
        lambda value: value < 0.1,
        "spread of scores between histories of one event and 19 paddings, over that without them",
    )


def alike(build: Callable[[int], nn.Module], claim: str) -> Verified:
    """Histories are told apart by next to nothing."""
    return Verified(
        SPREAD,
        PACKAGE,
        claim,
        partial(by_hand.between_users, build),
        lambda value: value < 1e-3,
        "share of the variance of the results that lies between histories",
    )


def crash(build: Callable[[int], nn.Module], claim: str, *shape: int) -> Verified:
    """A legal batch raises."""
    return Verified(
        ("dimensions_fit",),
        PACKAGE,
        claim,
        partial(by_hand.crashes, build, *shape),
        something,
        f"1 = a batch of {shape[0]} x {shape[1]} raises",
    )
