"""Triton kernels of the chunkwise mLSTM, backward; see ``mlstm_kernels``.

The weights between positions are recomputed from the gates. What remains of the gates' gradients
follows from how they enter: ``dL/d log i_t = k_t · dL/dk_t`` and, for the running sum F of
``log f``, ``dL/dF_t = q_t · dL/dq_t - k_t · dL/dk_t``.
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
from xlstm_model.kernels.mlstm_kernels import (
    load_state,
    load_tile,
    load_vector,
    store_state,
    store_tile,
    store_vector,
)


@direct
@triton.jit
def recall_sums(
    h, grad_h, mask, sums, positions, grad_sums, S, N, NH, DV,
    HAS_MASK: tl.constexpr, L: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of every denominator before its absolute value; program: row, chunk."""
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    first = chunk * L
    batch, head = row // NH, row % NH
    values = (batch * S * NH + head) * DV
    real = real_positions(mask, batch, first, S, HAS_MASK, L)
    inner = tl.zeros((L,), tl.float32)
    for column in range(0, DV, BV):
        out = load_tile(h, values, NH * DV, first, real, column, DV, L, BV)
        grad = load_tile(grad_h, values, NH * DV, first, real, column, DV, L, BV)
        inner += tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    below = load_vector(sums, row * S, first, S, L)
    floor = load_field(positions, row, chunk, N, FLOOR, L, PRECISION)
    store_vector(grad_sums, row * S, first, S, sums_gradient(inner, below, floor), L)


@triton.jit
def sums_gradient(inner, sums, floor):
    """Gradient of the denominators before their absolute value."""
    size = tl.abs(sums)
    grad = tl.where(size >= floor, inner / tl.maximum(size, floor), 0.0)
    return tl.where(sums > 0, -grad, tl.where(sums < 0, grad, 0.0))


@direct
@triton.jit
def remember_backward(
    q, mask, positions, chunks, sums, grad_h, grad_sums, grad_end_c, grad_end_n,
    grad_c, grad_n, grad_start_c, grad_start_n, S, N, NH, DK, DV,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, HAS_END: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the state after each chunk; program: row, part of DK, part of DV."""
    row = tl.program_id(0).to(tl.int64)
    a, b = tl.program_id(1) * BK, tl.program_id(2) * BV
    batch, head = row // NH, row % NH
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    c = tl.zeros((BK, BV), tl.float32)
    n = tl.zeros((BK,), tl.float32)
    if HAS_END:
        c += load_state(grad_end_c, row * DK * DV, a, DK, b, DV, BK, BV)
        n += load_vector(grad_end_n, row * DK, a, DK, BK)
    for back in range(N):
        chunk = N - 1 - back
        first = tl.full((), 1, tl.int32) * chunk * L
        at = row * N + chunk
        store_state(grad_c, at * DK * DV, a, DK, b, DV, c, BK, BV)
        if tl.program_id(2) == 0:
            store_vector(grad_n, at * DK, a, DK, n, BK)
        real = real_positions(mask, batch, first, S, HAS_MASK, L)
        peak = load_field(positions, row, chunk, N, PEAK, L, PRECISION)
        floor = load_field(positions, row, chunk, N, FLOOR, L, PRECISION)
        before = tl.load(chunks + at + row * N)
        keep = tl.load(chunks + at + (row + 1) * N)
        query = load_tile(q, keys, NH * DK, first, real, a, DK, L, BK)
        grad = load_tile(grad_h, values, NH * DV, first, real, b, DV, L, BV)
        below = load_vector(sums, row * S, first, S, L)
        divisor = tl.maximum(tl.abs(below), floor)
        reach = query.to(tl.float32) * tl.exp2(before - peak)[:, None]
        quotient = (grad.to(tl.float32) / divisor[:, None]).to(query.dtype)
        c = c * keep + tl.dot(tl.trans(reach.to(query.dtype)), quotient, input_precision=PRECISION)
        n = n * keep + tl.sum(reach * load_vector(grad_sums, row * S, first, S, L)[:, None], 0)
    if HAS_STATE:
        store_state(grad_start_c, row * DK * DV, a, DK, b, DV, c, BK, BV)
        if tl.program_id(2) == 0:
            store_vector(grad_start_n, row * DK, a, DK, n, BK)


@triton.jit
def read_tile_backward(
    v, h, grad_h, border_c, grad_c, grad_v, scores, key, divisor, dc, write, inner,
    grad_scores, dq, dk, values, stride, first, real, state, column, S, DK, DV,
    CARRY: tl.constexpr, ALONE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What columns of the values add to a chunk's gradients; stores their own."""
    value = load_tile(v, values, stride, first, real, column, DV, L, BV)
    grad = load_tile(grad_h, values, stride, first, real, column, DV, L, BV).to(tl.float32)
    if CARRY:
        out = load_tile(h, values, stride, first, real, column, DV, L, BV)
        inner += tl.sum(out.to(tl.float32) * grad, 1)
    quotient = (grad / divisor[:, None]).to(value.dtype)
    grad_scores = tl.dot(quotient, tl.trans(value), grad_scores, input_precision=PRECISION)
    dv = tl.dot(scores, quotient, input_precision=PRECISION)
    if not ALONE:
        before = load_state(border_c, state, 0, DK, column, DV, BK, BV)
        if CARRY:
            behind = dc.to(value.dtype)
        else:
            behind = load_state(grad_c, state, 0, DK, column, DV, BK, BV)
        dq = tl.dot(quotient, tl.trans(before), dq, input_precision=PRECISION)
        dk = tl.dot(value, tl.trans(behind), dk, input_precision=PRECISION)
        dv += write[:, None] * tl.dot(key, behind, input_precision=PRECISION)
    store_tile(grad_v, values, stride, first, S, column, DV, dv, L, BV)
    return quotient, inner, grad_scores, dq, dk


@direct
@triton.jit
def read_backward(
    q, k, v, f, mask, positions, chunks, h, sums, grad_h, grad_sums, border_c, border_n,
    grad_c, grad_n, grad_end_c, grad_end_n, grad_start_c, grad_start_n,
    grad_q, grad_k, grad_v, grad_i, grad_f, grad_decay, onward,
    gate_b, gate_h, gate_s, S, N, NH, DK, DV,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, HAS_END: tl.constexpr,
    CARRY: tl.constexpr, ALONE: tl.constexpr,
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, TILES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """All gradients of a chunk; program: row, chunk (all of them if CARRY, which also does the work
    of the other kernels here). ALONE: one chunk without a state around it."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // NH, row % NH
    gates = batch * gate_b + head * gate_h
    keys, values = (batch * S * NH + head) * DK, (batch * S * NH + head) * DV
    DTYPE: tl.constexpr = q.dtype.element_ty
    dc = tl.zeros((BK, BV), tl.float32)
    dn = tl.zeros((BK,), tl.float32)
    later = 0.0
    num_chunks = 1
    if CARRY:
        num_chunks = N
        if HAS_END:
            dc += load_state(grad_end_c, row * DK * DV, 0, DK, 0, DV, BK, BV)
            dn += load_vector(grad_end_n, row * DK, 0, DK, BK)
            later += tl.load(onward + row)
    for back in range(num_chunks):
        chunk = tl.program_id(1)
        if CARRY:
            chunk = N - 1 - back
        first = tl.full((), 1, tl.int32) * chunk * L
        at = row * N + chunk
        real = real_positions(mask, batch, first, S, HAS_MASK, L)
        peak = load_field(positions, row, chunk, N, PEAK, L, PRECISION)
        floor = load_field(positions, row, chunk, N, FLOOR, L, PRECISION)
        write = load_field(positions, row, chunk, N, WRITE, L, PRECISION)
        if not ALONE:
            reach = tl.exp2(tl.load(chunks + at + row * N) - peak)
            n = load_vector(border_n, at * DK, 0, DK, BK)
            if not CARRY:
                dn = load_vector(grad_n, at * DK, 0, DK, BK)
        query = load_tile(q, keys, NH * DK, first, real, 0, DK, L, BK)
        key = load_tile(k, keys, NH * DK, first, real, 0, DK, L, BK)
        weights = causal_weights(positions, row, chunk, N, peak, L, PRECISION)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * weights
        scores = tl.trans(scores.to(DTYPE))
        below = load_vector(sums, row * S, first, S, L)
        divisor = tl.maximum(tl.abs(below), floor)
        inner = tl.zeros((L,), tl.float32)
        grad_scores = tl.zeros((L, L), tl.float32)
        dq = tl.zeros((L, BK), tl.float32)
        dk = tl.zeros((L, BK), tl.float32)
        if CARRY:
            quotient, inner, grad_scores, dq, dk = read_tile_backward(
                v, h, grad_h, border_c, grad_c, grad_v, scores, key, divisor, dc, write, inner,
                grad_scores, dq, dk, values, NH * DV, first, real, at * DK * DV, 0, S, DK, DV,
                CARRY, ALONE, L, BK, BV, PRECISION,
            )  # fmt: skip
        else:
            for tile in range(TILES):
                _, inner, grad_scores, dq, dk = read_tile_backward(
                    v, h, grad_h, border_c, grad_c, grad_v, scores, key, divisor, dc, write, inner,
                    grad_scores, dq, dk, values, NH * DV, first, real, at * DK * DV, tile * BV, S,
                    DK, DV, CARRY, ALONE, L, BK, BV, PRECISION,
                )  # fmt: skip
        if CARRY:
            to_sums = sums_gradient(inner, below, floor)
        else:
            to_sums = load_vector(grad_sums, row * S, first, S, L)
        if not ALONE:
            dq = reach[:, None] * (dq + to_sums[:, None] * n[None, :])
            dk = write[:, None] * (dk + dn[None, :])
        grad_scores = ((grad_scores + to_sums[:, None]) * weights).to(DTYPE)
        dq = tl.dot(grad_scores, key, dq, input_precision=PRECISION)
        dk = tl.dot(tl.trans(grad_scores), query, dk, input_precision=PRECISION)
        store_tile(grad_q, keys, NH * DK, first, S, 0, DK, dq, L, BK)
        store_tile(grad_k, keys, NH * DK, first, S, 0, DK, dk, L, BK)
        di = tl.sum(key.to(tl.float32) * dk, 1)
        # With q · dq of the same roundings, which cancel in the sums over positions.
        change = tl.sum(query.to(tl.float32) * dq, 1) - di
        t = (first + tl.arange(0, L)).to(tl.int64)
        place = (batch * S + t) * NH + head
        tl.store(grad_i + place, tl.where(real, di, 0.0).to(grad_i.dtype.element_ty), mask=t < S)
        if CARRY:
            fgate = tl.load(f + gates + t * gate_s, mask=real, other=0.0).to(tl.float32)
            df = (tl.cumsum(change, 0, reverse=True) + later) * (1.0 - tl.sigmoid(fgate))
            df = tl.where(real, df, 0.0).to(grad_f.dtype.element_ty)
            tl.store(grad_f + place, df, mask=t < S)
            later += tl.sum(change, 0)
            if not ALONE:
                keep = tl.load(chunks + at + (row + 1) * N)
                reached = query.to(tl.float32) * reach[:, None]
                dc = dc * keep + tl.dot(
                    tl.trans(reached.to(DTYPE)), quotient, input_precision=PRECISION
                )
                dn = dn * keep + tl.sum(reached * to_sums[:, None], 0)
        else:
            store_vector(grad_decay, row * S, first, S, change, L)
    if CARRY and HAS_STATE:
        store_state(grad_start_c, row * DK * DV, 0, DK, 0, DV, dc, BK, BV)
        store_vector(grad_start_n, row * DK, 0, DK, dn, BK)


@direct
@triton.jit
def decay_backward(
    f, mask, grad_decay, onward, grad_f, gate_b, gate_h, gate_s, S, NH,
    HAS_MASK: tl.constexpr, HAS_END: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Gradient of the forget gates from that of F: sums over all positions from each on; program:
    row."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // NH, row % NH
    later = tl.zeros((), tl.float64)
    if HAS_END:
        later += tl.load(onward + row)
    num_parts = tl.cdiv(S, L)
    for back in range(num_parts):
        first = (num_parts - 1 - back) * L
        t = (first + tl.arange(0, L)).to(tl.int64)
        real = t < S
        if HAS_MASK:
            real = real & (tl.load(mask + batch * S + t, mask=real, other=0) != 0)
        fgate = tl.load(f + batch * gate_b + head * gate_h + t * gate_s, mask=real, other=0.0)
        decay = load_vector(grad_decay, row * S, first, S, L).to(tl.float64)
        df = tl.cumsum(decay, 0, reverse=True) + later
        df = df.to(tl.float32) * (1.0 - tl.sigmoid(fgate.to(tl.float32)))
        place = (batch * S + t) * NH + head
        df = tl.where(real, df, 0.0).to(grad_f.dtype.element_ty)
        tl.store(grad_f + place, df, mask=t < S)
        later += tl.sum(decay, 0)
