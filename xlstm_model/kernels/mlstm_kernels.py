"""Triton kernels of the chunkwise mLSTM, forward.

A row is one head of one sample, a chunk L positions of it. What the gates make of positions and
chunks is worked out first, for all of them side by side (``mlstm_gate_kernels``): beside the
products of a chunk, scans over its gates would take longer than these.

Memory: q, k, v, h and their gradients (B, S, NH, D); states at the borders of the chunks
(B · NH, N, ...), before each chunk in the forward pass and after each in the backward.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct
from xlstm_model.kernels.mlstm_gate_kernels import (
    FLOOR,
    PEAK,
    WRITE,
    causal_weights,
    load_field,
    real_positions,
)


@triton.jit
def load_tile(ptr, offset, stride, first, real, column, D, L: tl.constexpr, BD: tl.constexpr):
    """(L, BD) of a (B, S, NH, D) tensor from ``column`` on, 0 at padding and beyond D.

    What is the same in all chunks is a narrow integer per element, what differs one wide number.
    """
    d = column + tl.arange(0, BD)
    start = ptr + (offset + first.to(tl.int64) * stride)
    at = tl.arange(0, L)[:, None] * stride + d[None, :]
    return tl.load(start + at, mask=real[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def store_tile(ptr, offset, stride, first, S, column, D, tile, L: tl.constexpr, BD: tl.constexpr):
    """Undo ``load_tile``, padding included."""
    d = column + tl.arange(0, BD)
    start = ptr + (offset + first.to(tl.int64) * stride)
    at = tl.arange(0, L)[:, None] * stride + d[None, :]
    inside = (first + tl.arange(0, L) < S)[:, None] & (d < D)[None, :]
    tl.store(start + at, tile.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_state(ptr, offset, row, DK, column, DV, BK: tl.constexpr, BV: tl.constexpr):
    """(BK, BV) of a (DK, DV) matrix, 0 beyond."""
    a = row + tl.arange(0, BK)
    b = column + tl.arange(0, BV)
    inside = (a < DK)[:, None] & (b < DV)[None, :]
    return tl.load(ptr + offset + a[:, None] * DV + b[None, :], mask=inside, other=0.0)


@triton.jit
def store_state(ptr, offset, row, DK, column, DV, tile, BK: tl.constexpr, BV: tl.constexpr):
    """Undo ``load_state``."""
    a = row + tl.arange(0, BK)
    b = column + tl.arange(0, BV)
    inside = (a < DK)[:, None] & (b < DV)[None, :]
    at = ptr + offset + a[:, None] * DV + b[None, :]
    tl.store(at, tile.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_vector(ptr, offset, row, D, BD: tl.constexpr):
    """(BD,) of a vector of D from ``row`` on, 0 beyond."""
    a = row + tl.arange(0, BD)
    return tl.load(ptr + offset + a, mask=a < D, other=0.0)


@triton.jit
def store_vector(ptr, offset, row, D, vector, BD: tl.constexpr):
    """Undo ``load_vector``."""
    a = row + tl.arange(0, BD)
    tl.store(ptr + offset + a, vector, mask=a < D)


@direct
@triton.jit
def remember(
    k, v, mask, positions, chunks, start_c, start_n, border_c, border_n, end_c, end_n,
    S, N, NH, DK, DV,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """States before each chunk and after the last; program: row, part of DK, part of DV."""
    row = tl.program_id(0).to(tl.int64)
    a, b = tl.program_id(1) * BK, tl.program_id(2) * BV
    batch, head = row // NH, row % NH
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    c = tl.zeros((BK, BV), tl.float32)
    n = tl.zeros((BK,), tl.float32)
    if HAS_STATE:
        c += load_state(start_c, row * DK * DV, a, DK, b, DV, BK, BV)
        n += load_vector(start_n, row * DK, a, DK, BK)
    for chunk in range(N):
        at = row * N + chunk
        first = tl.full((), 1, tl.int32) * chunk * L
        store_state(border_c, at * DK * DV, a, DK, b, DV, c, BK, BV)
        if tl.program_id(2) == 0:
            store_vector(border_n, at * DK, a, DK, n, BK)
        real = real_positions(mask, batch, first, S, HAS_MASK, L)
        write = load_field(positions, row, chunk, N, WRITE, L, PRECISION)
        keep = tl.load(chunks + at + (row + 1) * N)
        key = load_tile(k, keys, NH * DK, first, real, a, DK, L, BK)
        value = load_tile(v, values, NH * DV, first, real, b, DV, L, BV)
        written = key.to(tl.float32) * write[:, None]
        c = c * keep + tl.dot(tl.trans(written.to(value.dtype)), value, input_precision=PRECISION)
        n = n * keep + tl.sum(written, 0)
    store_state(end_c, row * DK * DV, a, DK, b, DV, c, BK, BV)
    if tl.program_id(2) == 0:
        store_vector(end_n, row * DK, a, DK, n, BK)


@direct
@triton.jit
def read(
    q, k, v, mask, positions, chunks, start_c, start_n, border_c, border_n, end_c, end_n, h,
    denominator, S, N, NH, DK, DV,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, CARRY: tl.constexpr, ALONE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs; program: row, chunk (all of them if CARRY, which also does ``remember``'s work),
    part of DV. ALONE: one chunk and no state before it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(2) * BV
    batch, head = row // NH, row % NH
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    c = tl.zeros((BK, BV), tl.float32)
    n = tl.zeros((BK,), tl.float32)
    first_chunk, last_chunk = tl.program_id(1), tl.program_id(1) + 1
    if CARRY:
        first_chunk, last_chunk = 0, N
        if HAS_STATE:
            c += load_state(start_c, row * DK * DV, 0, DK, 0, DV, BK, BV)
            n += load_vector(start_n, row * DK, 0, DK, BK)
    for chunk in range(first_chunk, last_chunk):
        first = tl.full((), 1, tl.int32) * chunk * L
        at = row * N + chunk
        if CARRY:
            if not ALONE:
                store_state(border_c, at * DK * DV, 0, DK, 0, DV, c, BK, BV)
                store_vector(border_n, at * DK, 0, DK, n, BK)
            before = c.to(q.dtype.element_ty)
        else:
            before = load_state(border_c, at * DK * DV, 0, DK, column, DV, BK, BV)
            n = load_vector(border_n, at * DK, 0, DK, BK)
        real = real_positions(mask, batch, first, S, HAS_MASK, L)
        peak = load_field(positions, row, chunk, N, PEAK, L, PRECISION)
        floor = load_field(positions, row, chunk, N, FLOOR, L, PRECISION)
        query = load_tile(q, keys, NH * DK, first, real, 0, DK, L, BK)
        key = load_tile(k, keys, NH * DK, first, real, 0, DK, L, BK)
        value = load_tile(v, values, NH * DV, first, real, column, DV, L, BV)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        scores = scores * causal_weights(positions, row, chunk, N, peak, L, PRECISION)
        sums = tl.sum(scores, 1)
        numerator = tl.dot(scores.to(value.dtype), value, input_precision=PRECISION)
        if not ALONE:
            reach = tl.exp2(tl.load(chunks + at + row * N) - peak)
            numerator += reach[:, None] * tl.dot(query, before, input_precision=PRECISION)
            sums += reach * tl.sum(query.to(tl.float32) * n[None, :], 1)
        divisor = tl.maximum(tl.abs(sums), floor)
        result = tl.where(real[:, None], numerator / divisor[:, None], 0.0)
        store_tile(h, values, NH * DV, first, S, column, DV, result, L, BV)
        if tl.program_id(2) == 0:
            store_vector(denominator, row * S, first, S, sums, L)
        if CARRY:
            write = load_field(positions, row, chunk, N, WRITE, L, PRECISION)
            keep = tl.load(chunks + at + (row + 1) * N)
            written = key.to(tl.float32) * write[:, None]
            c = c * keep + tl.dot(
                tl.trans(written.to(value.dtype)), value, input_precision=PRECISION
            )
            n = n * keep + tl.sum(written, 0)
    if CARRY:
        store_state(end_c, row * DK * DV, 0, DK, 0, DV, c, BK, BV)
        store_vector(end_n, row * DK, 0, DK, n, BK)
