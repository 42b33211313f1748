"""How the mLSTM's GPU kernels cut their work, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.kernels import library

WIDEST_HEAD = {torch.bfloat16: 256, torch.float32: 128}
"""Queries, keys or values per head."""
FIELDS = {torch.bfloat16: 4, torch.float32: 5}
"""Numbers that the gates' kernel leaves of each position (see ``mlstm_gate_kernels``)."""


class Plan(NamedTuple):
    """How the kernels cut their work."""

    length: int
    """Positions per chunk."""
    carry: bool
    """One program walks all chunks of a row with the state in registers, rather than one per chunk
    after one that leaves the states in memory."""
    tile: int
    """Columns of the values per program or turn of the chunks."""
    warps: int
    """Warps per program of the chunks."""
    stages: int
    """Loads in flight there."""
    backward_tile: int
    """The same three of the chunks' gradients."""
    backward_warps: int
    backward_stages: int
    state_tile: tuple[int, int] = (64, 64)
    """Rows and columns per program of the states, where those come first."""
    state_warps: int = 4
    state_stages: int = 3


class Inputs(NamedTuple):
    """What both directions take."""

    q: Tensor
    """(B, NH, S, DHQK), in memory as (B, S, NH, DHQK)."""
    k: Tensor
    """(B, NH, S, DHQK), in memory as (B, S, NH, DHQK)."""
    v: Tensor
    """(B, NH, S, DHV), in memory as (B, S, NH, DHV)."""
    igate: Tensor
    """(B, NH, S), strides as ``fgate``."""
    fgate: Tensor
    """(B, NH, S)."""
    mask: Tensor | None
    """uint8 (B, S)."""
    c: Tensor | None
    """(B, NH, DHQK, DHV) float32, contiguous."""
    n: Tensor | None
    m: Tensor | None


def make_plan(rows: int, seq_len: int, qk_dim: int, v_dim: int, dtype: torch.dtype) -> Plan:
    """How to cut a call over B · NH rows.

    >>> make_plan(1024, 256, 32, 32, torch.bfloat16).carry
    True
    """
    bk, bv = library.power_of_two(qk_dim), library.power_of_two(v_dim)
    widest, is_narrow = max(bk, bv), dtype == torch.bfloat16
    # What a program keeps of queries and keys grows with their width in bytes.
    room = 16384 if is_narrow else 8192
    length = min(max(16, min(64, room // (bk * dtype.itemsize))), library.power_of_two(seq_len))
    # All below was measured on an H100. Walking beats two passes over the states while a state is
    # small.
    if widest <= 32 or (seq_len <= length and widest <= 64):
        return Plan(length, True, bv, 4, 3, bv, 4, 2)
    if not is_narrow or widest > 128:
        warps = 4 if widest <= 64 else 8
        return Plan(length, False, min(bv, 64), warps, 2, min(bv, 64), warps, 1)
    states = {"state_tile": (32, 64), "state_warps": 2, "state_stages": 4}
    backward_warps = 4 if widest <= 64 else 8
    return Plan(length, False, bv, 4, 1, min(bv, 64), backward_warps, 2, **states)


def gather_inputs(q, k, v, igate, fgate, c, n, m, mask) -> Inputs:  # type: ignore[no-untyped-def]
    """Tensors in the memory the kernels read; mostly the same ones.

    Raises:
        ValueError: If mask or state is on another device.
    """
    library.check_device(q, c, n, m, mask)
    if igate.stride() != fgate.stride():
        igate, fgate = igate.contiguous(), fgate.contiguous()
    if mask is not None:
        mask = mask.contiguous().view(torch.uint8)
    if c is not None:
        c, n, m = (x.float().contiguous() for x in (c, n, m))
    return Inputs(*map(by_position, (q, k, v)), igate, fgate, mask, c, n, m)


def by_position(x: Tensor) -> Tensor:
    """The (B, NH, S, D) tensor with its positions before its heads in memory.

    >>> by_position(torch.zeros(2, 3, 5, 4)).stride()
    (60, 4, 12, 1)
    """
    if x.stride() == position_strides(x.shape):
        return x
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@lru_cache(library.MOST_KEPT)
def position_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of (B, NH, S, ...) with its positions before its heads in memory.

    >>> position_strides((2, 3, 5))
    (15, 1, 3)
    """
    _, num_heads, seq_len = shape[:3]
    width = 1 if len(shape) == 3 else shape[3]
    row = num_heads * width
    return (seq_len * row, width, row, 1)[: len(shape)]
