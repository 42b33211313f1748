"""Triton kernels of the chunkwise mLSTM, forward.

A row is one head of one sample, a chunk L positions of it. With F the running sum of ``log f``
within the chunk, ``b_s = log i_s - F_s`` and ``M_t = max(m_prev, max_{s <= t} b_s)``, position s
weighs ``exp(b_s - M_t)`` in output t and the state before the chunk ``exp(m_prev - M_t)``
(``cells.mlstm_gates`` has the same). Exponents are held in powers of two: sums over a chunk in
float64, and differences of them as two float32 numbers, so that hard gates lose no digits.

Memory: q, k, v, h and their gradients (B, S, NH, D); gates by strides; states at the borders of the
chunks (B · NH, N, ...), before each chunk in the forward pass and after each in the backward.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)
LOWEST_FLOOR: tl.constexpr = tl.constexpr(-46.0)
HIGHEST_FLOOR: tl.constexpr = tl.constexpr(126.5573)


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def log_sigmoid(x):
    """Logarithm of the sigmoid; a short series where 1 + exp(-|x|) would lose its digits."""
    e = tl.exp(-tl.abs(x))
    series = e * (1.0 - e * (0.5 - e * (0.33333334 - e * 0.25)))
    return tl.minimum(x, 0.0) - tl.where(e < 0.03, series, tl.log(1.0 + e))


@triton.jit
def gate_rows(i_ptr, f_ptr, mask_ptr, offset, stride, batch, first, S, HAS_MASK, L: tl.constexpr):
    """Which positions are real, both log gates in powers of two, and the raw forget gate."""
    t = first + tl.arange(0, L)
    real = t < S
    if HAS_MASK:
        real = real & (tl.load(mask_ptr + batch * S + t, mask=real, other=0) != 0)
    at = t * stride
    igate = tl.load(i_ptr + offset + at, mask=real, other=0.0).to(tl.float64)
    fgate = tl.load(f_ptr + offset + at, mask=real, other=0.0).to(tl.float32)
    log_i = tl.where(real, igate * LOG2_E, float("-inf"))
    log_f = tl.where(real, log_sigmoid(fgate).to(tl.float64) * LOG2_E, 0.0)
    return real, log_i, log_f, fgate


@triton.jit
def chunk_path(log_i, log_f, m, log_scale):
    """b with the keys' scale, F, M, F of the whole chunk, and the stabiliser after it."""
    total = tl.cumsum(log_f, 0)
    relative = log_i - total
    rounded = relative.to(tl.float32)
    peak = tl.maximum(tl.associative_scan(rounded, 0, _larger), m)
    peak = tl.where(peak == float("-inf"), 0.0, peak)
    grown = tl.sum(log_f, 0)
    after = (tl.maximum(tl.max(rounded, 0), m).to(tl.float64) + grown).to(tl.float32)
    return relative + log_scale, total, peak, grown, after


@triton.jit
def state_shares(relative, grown, m, after):
    """Shares of the positions and of the state before the chunk in the state after it."""
    finite = tl.where(after == float("-inf"), 0.0, after).to(tl.float64)
    write = tl.exp2((relative + (grown - finite)).to(tl.float32))
    keep = tl.exp2((m.to(tl.float64) + grown - finite).to(tl.float32))
    return write, keep


@triton.jit
def causal_weights(relative, peak, L: tl.constexpr, PRECISION: tl.constexpr):
    """``exp(b_s - M_t)`` for s ≤ t, else 0: (t, s)."""
    high = relative.to(tl.float32)
    exponent = high[None, :] - peak[:, None]
    if PRECISION != "tf32":
        # What rounding took from b: nothing beside bfloat16, too much beside float32.
        nowhere = high == float("-inf")
        rest = relative - tl.where(nowhere, 0.0, high).to(tl.float64)
        exponent += tl.where(nowhere, 0.0, rest).to(tl.float32)[None, :]
    place = tl.arange(0, L)
    return tl.exp2(tl.where(place[:, None] >= place[None, :], exponent, float("-inf")))


@triton.jit
def denominator_floor(total, peak):
    """``exp(-m)`` of each position, within the range of float32."""
    exponent = -(total + peak.to(tl.float64)).to(tl.float32)
    return tl.exp2(tl.minimum(tl.maximum(exponent, LOWEST_FLOOR), HIGHEST_FLOOR))


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
    k, v, i, f, mask, start_c, start_n, start_m, border_c, border_n, border_m, end_c, end_n, end_m,
    gate_b, gate_h, gate_s, S, N, NH, DK, DV, log_scale,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """States before each chunk and after the last; program: row, part of DK, part of DV."""
    row = tl.program_id(0).to(tl.int64)
    a, b = tl.program_id(1) * BK, tl.program_id(2) * BV
    batch, head = row // NH, row % NH
    gates = batch * gate_b + head * gate_h
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    c = tl.zeros((BK, BV), tl.float32)
    n = tl.zeros((BK,), tl.float32)
    m = -float("inf")
    if HAS_STATE:
        c += load_state(start_c, row * DK * DV, a, DK, b, DV, BK, BV)
        n += load_vector(start_n, row * DK, a, DK, BK)
        m = tl.load(start_m + row) * LOG2_E
    for chunk in range(N):
        at = row * N + chunk
        first = tl.full((), 1, tl.int32) * chunk * L
        store_state(border_c, at * DK * DV, a, DK, b, DV, c, BK, BV)
        if tl.program_id(2) == 0:
            store_vector(border_n, at * DK, a, DK, n, BK)
            tl.store(border_m + at, m)
        real, log_i, log_f, _ = gate_rows(i, f, mask, gates, gate_s, batch, first, S, HAS_MASK, L)
        relative, _, _, grown, after = chunk_path(log_i, log_f, m, log_scale)
        write, keep = state_shares(relative, grown, m, after)
        key = load_tile(k, keys, NH * DK, first, real, a, DK, L, BK)
        value = load_tile(v, values, NH * DV, first, real, b, DV, L, BV)
        written = key.to(tl.float32) * write[:, None]
        c = c * keep + tl.dot(tl.trans(written.to(value.dtype)), value, input_precision=PRECISION)
        n = n * keep + tl.sum(written, 0)
        m = after
    store_state(end_c, row * DK * DV, a, DK, b, DV, c, BK, BV)
    if tl.program_id(2) == 0:
        store_vector(end_n, row * DK, a, DK, n, BK)
        tl.store(end_m + row, m * LN_2)


@direct
@triton.jit
def read(
    q, k, v, i, f, mask, start_c, start_n, start_m, border_c, border_n, border_m, end_c, end_n,
    end_m, h, denominator, gate_b, gate_h, gate_s, S, N, NH, DK, DV, log_scale,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, CARRY: tl.constexpr, ALONE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs; program: row, chunk (all of them if CARRY, which also does ``remember``'s work),
    part of DV. ALONE: one chunk and no state before it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(2) * BV
    batch, head = row // NH, row % NH
    gates = batch * gate_b + head * gate_h
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    c = tl.zeros((BK, BV), tl.float32)
    n = tl.zeros((BK,), tl.float32)
    m = -float("inf")
    first_chunk, last_chunk = tl.program_id(1), tl.program_id(1) + 1
    if CARRY:
        first_chunk, last_chunk = 0, N
        if HAS_STATE:
            c += load_state(start_c, row * DK * DV, 0, DK, 0, DV, BK, BV)
            n += load_vector(start_n, row * DK, 0, DK, BK)
            m = tl.load(start_m + row) * LOG2_E
    for chunk in range(first_chunk, last_chunk):
        first = tl.full((), 1, tl.int32) * chunk * L
        at = row * N + chunk
        if CARRY:
            if not ALONE:
                store_state(border_c, at * DK * DV, 0, DK, 0, DV, c, BK, BV)
                store_vector(border_n, at * DK, 0, DK, n, BK)
                tl.store(border_m + at, m)
            before = c.to(q.dtype.element_ty)
        else:
            before = load_state(border_c, at * DK * DV, 0, DK, column, DV, BK, BV)
            n = load_vector(border_n, at * DK, 0, DK, BK)
            m = tl.load(border_m + at)
        real, log_i, log_f, _ = gate_rows(i, f, mask, gates, gate_s, batch, first, S, HAS_MASK, L)
        relative, total, peak, grown, after = chunk_path(log_i, log_f, m, log_scale)
        query = load_tile(q, keys, NH * DK, first, real, 0, DK, L, BK)
        key = load_tile(k, keys, NH * DK, first, real, 0, DK, L, BK)
        value = load_tile(v, values, NH * DV, first, real, column, DV, L, BV)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        scores = scores * causal_weights(relative, peak, L, PRECISION)
        sums = tl.sum(scores, 1)
        numerator = tl.dot(scores.to(value.dtype), value, input_precision=PRECISION)
        if not ALONE:
            reach = tl.exp2(m - peak)
            numerator += reach[:, None] * tl.dot(query, before, input_precision=PRECISION)
            sums += reach * tl.sum(query.to(tl.float32) * n[None, :], 1)
        divisor = tl.maximum(tl.abs(sums), denominator_floor(total, peak))
        result = tl.where(real[:, None], numerator / divisor[:, None], 0.0)
        store_tile(h, values, NH * DV, first, S, column, DV, result, L, BV)
        if tl.program_id(2) == 0:
            store_vector(denominator, row * S, first, S, sums, L)
        if CARRY:
            write, keep = state_shares(relative, grown, m, after)
            written = key.to(tl.float32) * write[:, None]
            c = c * keep + tl.dot(
                tl.trans(written.to(value.dtype)), value, input_precision=PRECISION
            )
            n = n * keep + tl.sum(written, 0)
            m = after
    if CARRY:
        store_state(end_c, row * DK * DV, 0, DK, 0, DV, c, BK, BV)
        store_vector(end_n, row * DK, 0, DK, n, BK)
        tl.store(end_m + row, m * LN_2)
