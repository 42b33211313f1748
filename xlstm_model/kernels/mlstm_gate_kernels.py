"""Triton kernel of the mLSTM's gates, which the other kernels of the cell read; see
``mlstm_kernels``.

With F the running sum of ``log f`` within a chunk, ``b_s = log i_s - F_s`` and
``M_t = max(m_prev, max_{s <= t} b_s)``, position s weighs ``exp(b_s - M_t)`` in output t and the
state before the chunk ``exp(m_prev - M_t)`` (``cells.mlstm_gates`` has the same). Exponents are
held in powers of two: sums in float64, and differences of them as two float32 numbers, so that hard
gates lose no digits.

What it leaves: of every position (B · NH, fields, N · L), of every chunk (B · NH, 2, N).
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)
LOWEST_FLOOR: tl.constexpr = tl.constexpr(-46.0)
HIGHEST_FLOOR: tl.constexpr = tl.constexpr(126.5573)

RELATIVE: tl.constexpr = tl.constexpr(0)
"""Field of a position: b with the keys' scale."""
PEAK: tl.constexpr = tl.constexpr(1)
"""M."""
FLOOR: tl.constexpr = tl.constexpr(2)
"""``exp(-m)``, which the denominator is at least."""
WRITE: tl.constexpr = tl.constexpr(3)
"""Its share in the state after the chunk."""
REST: tl.constexpr = tl.constexpr(4)
"""What rounding took from b: nothing beside bfloat16, too much beside float32."""


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def log_sigmoid(x):
    """Logarithm of the sigmoid; a short series where 1 + exp(-|x|) would lose its digits."""
    e = tl.exp(-tl.abs(x))
    series = e * (1.0 - e * (0.5 - e * (0.33333334 - e * 0.25)))
    return tl.minimum(x, 0.0) - tl.where(e < 0.03, series, tl.log(1.0 + e))


@direct
@triton.jit
def follow_gates(
    i, f, mask, start_m, positions, chunks, end_m, gate_b, gate_h, gate_s, S, N, NH, log_scale,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, FIELDS: tl.constexpr,
    L: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Weights of all positions, C chunks of L of them a turn; program: row.

    Of a chunk: the stabiliser before it and what remains of the state after it.
    """
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // NH, row % NH
    gates = batch * gate_b + head * gate_h
    place = tl.arange(0, C)
    m = tl.full((), -float("inf"), tl.float32)
    if HAS_STATE:
        m = tl.load(start_m + row) * LOG2_E
    for first in range(0, N, C):
        chunk = first + place
        t = chunk[:, None] * L + tl.arange(0, L)[None, :]
        real = t < S
        if HAS_MASK:
            real = real & (tl.load(mask + batch * S + t, mask=real, other=0) != 0)
        igate = tl.load(i + gates + t * gate_s, mask=real, other=0.0).to(tl.float64)
        fgate = tl.load(f + gates + t * gate_s, mask=real, other=0.0).to(tl.float32)
        log_i = tl.where(real, igate * LOG2_E, float("-inf"))
        log_f = tl.where(real, log_sigmoid(fgate).to(tl.float64) * LOG2_E, 0.0)
        total = tl.cumsum(log_f, 1)
        relative = log_i - total
        rounded = relative.to(tl.float32)
        # Stabilisers: what the largest b of a chunk has become at the end of a later one.
        grown = tl.sum(log_f, 1)
        whole = tl.cumsum(grown, 0)
        top = tl.max(rounded, 1).to(tl.float64) - (whole - grown)
        after = (whole + tl.maximum(tl.associative_scan(top, 0, _larger), m)).to(tl.float32)
        is_previous = place[None, :] + 1 == place[:, None]
        before = tl.max(tl.where(is_previous, after[None, :], float("-inf")), 1)
        before = tl.where(place == 0, m, before)
        m = tl.max(tl.where(place == C - 1, after, float("-inf")), 0)
        peak = tl.maximum(tl.associative_scan(rounded, 1, _larger), before[:, None])
        peak = tl.where(peak == float("-inf"), 0.0, peak)
        floor = -(total + peak.to(tl.float64)).to(tl.float32)
        floor = tl.exp2(tl.minimum(tl.maximum(floor, LOWEST_FLOOR), HIGHEST_FLOOR))
        finite = tl.where(after == float("-inf"), 0.0, after).to(tl.float64)
        relative += log_scale
        write = tl.exp2((relative + (grown - finite)[:, None]).to(tl.float32))
        keep = tl.exp2((before.to(tl.float64) + grown - finite).to(tl.float32))
        inside = chunk < N
        tl.store(chunks + row * 2 * N + chunk, before, mask=inside)
        tl.store(chunks + (row * 2 + 1) * N + chunk, keep, mask=inside)
        at = row * FIELDS * N * L + t
        high = relative.to(tl.float32)
        tl.store(positions + at + RELATIVE * N * L, high, mask=inside[:, None])
        tl.store(positions + at + PEAK * N * L, peak, mask=inside[:, None])
        tl.store(positions + at + FLOOR * N * L, floor, mask=inside[:, None])
        tl.store(positions + at + WRITE * N * L, write, mask=inside[:, None])
        if FIELDS > REST:
            nowhere = high == float("-inf")
            rest = relative - tl.where(nowhere, 0.0, high).to(tl.float64)
            rest = tl.where(nowhere, 0.0, rest).to(tl.float32)
            tl.store(positions + at + REST * N * L, rest, mask=inside[:, None])
    tl.store(end_m + row, m * LN_2)


@triton.jit
def load_field(positions, row, chunk, N, FIELD, L: tl.constexpr, PRECISION: tl.constexpr):
    """(L,) of one field of a chunk's positions."""
    FIELDS: tl.constexpr = 4 if PRECISION == "tf32" else 5
    return tl.load(positions + ((row * FIELDS + FIELD) * N + chunk) * L + tl.arange(0, L))


@triton.jit
def causal_weights(positions, row, chunk, N, peak, L: tl.constexpr, PRECISION: tl.constexpr):
    """``exp(b_s - M_t)`` for s ≤ t, else 0: (t, s)."""
    relative = load_field(positions, row, chunk, N, RELATIVE, L, PRECISION)
    exponent = relative[None, :] - peak[:, None]
    if PRECISION != "tf32":
        exponent += load_field(positions, row, chunk, N, REST, L, PRECISION)[None, :]
    place = tl.arange(0, L)
    return tl.exp2(tl.where(place[:, None] >= place[None, :], exponent, float("-inf")))


@triton.jit
def real_positions(mask, batch, first, S, HAS_MASK: tl.constexpr, L: tl.constexpr):
    """Which positions of a chunk are no padding."""
    t = first + tl.arange(0, L)
    real = t < S
    if HAS_MASK:
        real = real & (tl.load(mask + batch * S + t, mask=real, other=0) != 0)
    return real
