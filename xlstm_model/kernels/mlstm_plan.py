"""How the mLSTM's GPU kernels cut their work, and what they read."""

from __future__ import annotations

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
    """(B, S, NH, DHQK), contiguous."""
    k: Tensor
    """(B, S, NH, DHQK), contiguous."""
    v: Tensor
    """(B, S, NH, DHV), contiguous."""
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
    """Tensors in the memory the kernels read; mostly the same ones."""
    dense = (x.detach().transpose(1, 2).contiguous() for x in (q, k, v))
    igate, fgate = igate.detach(), fgate.detach()
    if igate.stride() != fgate.stride():
        igate, fgate = igate.contiguous(), fgate.contiguous()
    if mask is not None:
        mask = mask.contiguous().view(torch.uint8)
    start = (None if x is None else x.detach().float().contiguous() for x in (c, n, m))
    return Inputs(*dense, igate, fgate, mask, *start)
