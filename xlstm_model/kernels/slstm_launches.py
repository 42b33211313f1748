"""The sLSTM's kernels made ready for calls of one kind, so that a call only brings its tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from xlstm_model.kernels import library

RESIDENT_HEAD = {torch.bfloat16: 128, torch.float32: 64}
"""Units per head whose weights a program can hold in shared memory."""
UNITS_AT_ONCE = {torch.bfloat16: 64, torch.float32: 32}
"""Units whose weights a program reads at a time where it cannot hold all."""
ROWS_PER_TURN = 64
"""Positions times samples that enter the weights' gradient at once."""

Launch = Callable[..., None]


class Plan(NamedTuple):
    """How the kernels cut their work."""

    samples: int
    """Samples per program."""
    warps: int
    """Warps per program of the forward loop."""
    backward_warps: int
    """The same of the backward loop."""


class Kind(NamedTuple):
    """What decides how a call runs."""

    sizes: tuple[int, int, int, int]
    """B, S, NH, DH."""
    dtype: torch.dtype
    """Of the gates."""
    weight_dtypes: tuple[torch.dtype, torch.dtype]
    """Of weight and bias."""
    has_mask: bool
    has_state: bool
    is_sigmoid: bool
    plan: Plan
    device: int


def make_plan(head_dim: int) -> Plan:
    """How to cut a call.

    >>> make_plan(32).samples
    16
    """
    width = library.power_of_two(head_dim)
    warps = 16 if width > 128 else min(8, width // 8)
    return Plan(16, warps, warps)


@lru_cache(library.MOST_KEPT)
def forward_launch(kind: Kind, strides: tuple[int, ...]) -> Launch:
    """What runs the loop over gates with these strides."""
    from xlstm_model.kernels.launching import prepare
    from xlstm_model.kernels.slstm_kernels import run_forward

    grid, options = _loop(kind)
    return prepare(
        run_forward, grid, (*strides, *kind.sizes), kind.device, **options,
        num_warps=kind.plan.warps,
    )  # fmt: skip


@lru_cache(library.MOST_KEPT)
def backward_launch(kind: Kind, has_end: bool, has_extra: bool) -> Launch:
    """What runs the loop backwards.

    Args:
        kind: Of the call.
        has_end: Whether the final state has gradients.
        has_extra: Whether they reach the gates through the stabiliser.
    """
    from xlstm_model.kernels.launching import prepare
    from xlstm_model.kernels.slstm_kernels import run_backward

    grid, options = _loop(kind)
    return prepare(
        run_backward, grid, kind.sizes, kind.device, **options, HAS_END=has_end,
        HAS_EXTRA=has_extra, num_warps=kind.plan.backward_warps,
    )  # fmt: skip


@lru_cache(library.MOST_KEPT)
def weight_launch(kind: Kind) -> tuple[Launch, int]:
    """What sums the weight's gradient, and in how many parts."""
    from xlstm_model.kernels.launching import prepare
    from xlstm_model.kernels.slstm_kernels import weight_backward

    B, S, NH, DH = kind.sizes
    width = library.power_of_two(DH)
    is_wide = width > 128  # tiles of three would not fit beside each other
    tile, warps, stages = (32, 8, 2) if is_wide else (min(width, 64), 4, 3)
    tiles = -(-DH // tile)
    turns = -(-S * B // ROWS_PER_TURN)
    parts = max(1, min(turns, 512 // (4 * NH * tiles)))
    per_part = -(-turns // parts) * ROWS_PER_TURN
    launch = prepare(
        weight_backward, (NH * 4, parts, tiles), (*kind.sizes, per_part), kind.device,
        BT=ROWS_PER_TURN, BP=tile, BD=width, DTYPE=_triton_dtype(kind.dtype),
        PRECISION=library.precision(kind.dtype), num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return launch, parts


def _loop(kind: Kind) -> tuple[tuple[int, int], dict[str, Any]]:
    """Grid and constants of both loops over time."""
    B, _, NH, DH = kind.sizes
    options = {
        "HAS_MASK": kind.has_mask,
        "HAS_STATE": kind.has_state,
        "SIGMOID": kind.is_sigmoid,
        "RESIDENT": library.power_of_two(DH) <= RESIDENT_HEAD[kind.dtype],
        "BB": kind.plan.samples,
        "BK": UNITS_AT_ONCE[kind.dtype],
        "BD": library.power_of_two(DH),
        "DTYPE": _triton_dtype(kind.dtype),
        "PRECISION": library.precision(kind.dtype),
    }
    return (-(-B // kind.plan.samples), NH), options


def _triton_dtype(dtype: torch.dtype) -> object:
    import triton.language as tl

    return tl.bfloat16 if dtype == torch.bfloat16 else tl.float32
