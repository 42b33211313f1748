"""Triton kernels of the sLSTM: the whole loop over time in one program per head and some samples.

Weights stay where the program holds them for all positions (RESIDENT), or where they are too many
come by in parts at each; what a position needs besides the one before it is loaded one position
ahead. Layouts of what is kept are those of ``cells.slstm_passes``:
pre-activations (S, NH, B, 4, DH), states at the borders (S + 1, NH, B, DH). Gates, outputs and
their gradients have time behind the samples, (B, S, ...).
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct
from xlstm_model.kernels.mlstm_gate_kernels import log_sigmoid
from xlstm_model.kernels.slstm_tiles import (
    add_recurrent,
    gather_recurrent,
    load_gates,
    load_weight,
    store_gates,
    tanh,
)


@direct
@triton.jit
def run_forward(
    gates, weight, bias, mask, start_h, start_c, start_n, start_m,
    outputs, raw, states_h, states_c, states_n, states_m, end_h, end_c, end_n, end_m,
    gate_b, gate_s, gate_g, gate_h, B, S, NH, DH,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, SIGMOID: tl.constexpr,
    RESIDENT: tl.constexpr, BB: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
    DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs and states of all positions; program: samples, head."""
    head = tl.program_id(1)
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    d = tl.arange(0, BD)
    inside = (b < B)[:, None] & (d < DH)[None, :]
    if RESIDENT:
        wi = load_weight(weight, head, 0, DH, BD, DTYPE)
        wf = load_weight(weight, head, 1, DH, BD, DTYPE)
        wz = load_weight(weight, head, 2, DH, BD, DTYPE)
        wo = load_weight(weight, head, 3, DH, BD, DTYPE)
    at_bias = bias + head * 4 * DH + d
    bi = tl.load(at_bias, mask=d < DH, other=0.0).to(tl.float32)
    bf = tl.load(at_bias + DH, mask=d < DH, other=0.0).to(tl.float32)
    bz = tl.load(at_bias + 2 * DH, mask=d < DH, other=0.0).to(tl.float32)
    bo = tl.load(at_bias + 3 * DH, mask=d < DH, other=0.0).to(tl.float32)
    h = tl.zeros((BB, BD), tl.float32)
    c = tl.zeros((BB, BD), tl.float32)
    n = tl.zeros((BB, BD), tl.float32)
    m = tl.full((BB, BD), float("-inf"), tl.float32)
    at_start = (b[:, None] * NH + head) * DH + d[None, :]
    if HAS_STATE:
        h = tl.load(start_h + at_start, mask=inside, other=0.0)
        c = tl.load(start_c + at_start, mask=inside, other=0.0)
        n = tl.load(start_n + at_start, mask=inside, other=1.0)
        m = tl.load(start_m + at_start, mask=inside, other=0.0)
    at_state = (head.to(tl.int64) * B + b[:, None]) * DH + d[None, :]
    step_state = tl.full((), 1, tl.int64) * NH * B * DH
    at_before = (head.to(tl.int64) * B + b) * DH
    at_raw = (head.to(tl.int64) * B + b[:, None]) * 4 * DH + d[None, :]
    at_gates = b[:, None].to(tl.int64) * gate_b + head * gate_h + d[None, :]
    at_out = (b[:, None].to(tl.int64) * S * NH + head) * DH + d[None, :]
    tl.store(states_h + at_state, h, mask=inside)
    tl.store(states_c + at_state, c, mask=inside)
    tl.store(states_n + at_state, n, mask=inside)
    tl.store(states_m + at_state, m, mask=inside)
    i, f, z, o = load_gates(gates, at_gates, gate_g, inside)
    real = b < B
    if HAS_MASK:
        real = tl.load(mask + b * S, mask=b < B, other=0) != 0
    for t in range(S):
        coming = inside & (t + 1 < S)
        at_gates += gate_s
        i_next, f_next, z_next, o_next = load_gates(gates, at_gates, gate_g, coming)
        real_next = real
        if HAS_MASK:
            is_row = (b < B) & (t + 1 < S)
            real_next = tl.load(mask + b * S + t + 1, mask=is_row, other=0) != 0
            i = tl.where(real[:, None], i, 0.0)
            f = tl.where(real[:, None], f, 0.0)
            z = tl.where(real[:, None], z, 0.0)
            o = tl.where(real[:, None], o, 0.0)
        if RESIDENT:
            fed_back = h.to(DTYPE)
            i += bi[None, :] + tl.dot(fed_back, wi, input_precision=PRECISION)
            f += bf[None, :] + tl.dot(fed_back, wf, input_precision=PRECISION)
            z += bz[None, :] + tl.dot(fed_back, wz, input_precision=PRECISION)
            o += bo[None, :] + tl.dot(fed_back, wo, input_precision=PRECISION)
        else:
            tl.debug_barrier()  # the output before was stored by other threads
            i, f, z, o = add_recurrent(
                i + bi[None, :], f + bf[None, :], z + bz[None, :], o + bo[None, :], states_h,
                at_before, weight, head, b < B, DH, BK, BD, DTYPE, PRECISION,
            )  # fmt: skip
            at_before += step_state
        store_gates(raw, at_raw, DH, inside, i, f, z, o)
        log_i = i
        if SIGMOID:
            log_i = log_sigmoid(i)
        carried = log_sigmoid(f) + m
        m_new = tl.maximum(carried, log_i)
        keep = tl.exp(carried - m_new)
        write = tl.exp(log_i - m_new)
        c_new = keep * c + write * tanh(z)
        n_new = keep * n + write
        h_new = tl.sigmoid(o) * (c_new / n_new)
        out = h_new
        if HAS_MASK:
            here = real[:, None]
            out = tl.where(here, h_new, 0.0)
            h = tl.where(here, h_new, h)
            c = tl.where(here, c_new, c)
            n = tl.where(here, n_new, n)
            m = tl.where(here, m_new, m)
        else:
            h, c, n, m = h_new, c_new, n_new, m_new
        at_state += step_state
        tl.store(outputs + at_out, out.to(outputs.dtype.element_ty), mask=inside)
        tl.store(states_h + at_state, h, mask=inside)
        tl.store(states_c + at_state, c, mask=inside)
        tl.store(states_n + at_state, n, mask=inside)
        tl.store(states_m + at_state, m, mask=inside)
        at_raw += step_state * 4
        at_out += NH * DH
        i, f, z, o = i_next, f_next, z_next, o_next
        real = real_next
    tl.store(end_h + at_start, h, mask=inside)
    tl.store(end_c + at_start, c, mask=inside)
    tl.store(end_n + at_start, n, mask=inside)
    tl.store(end_m + at_start, m, mask=inside)


@direct
@triton.jit
def run_backward(
    weight, mask, raw, states_c, states_n, states_m, grad_outputs, extra,
    end_h, end_c, end_n, grad_gates, start_h, start_c, start_n,
    B, S, NH, DH,
    HAS_MASK: tl.constexpr, HAS_STATE: tl.constexpr, HAS_END: tl.constexpr,
    HAS_EXTRA: tl.constexpr, SIGMOID: tl.constexpr, RESIDENT: tl.constexpr, BB: tl.constexpr,
    BK: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of all pre-activations and of a state given; program: samples, head."""
    head = tl.program_id(1)
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    d = tl.arange(0, BD)
    inside = (b < B)[:, None] & (d < DH)[None, :]
    if RESIDENT:
        wi = tl.trans(load_weight(weight, head, 0, DH, BD, DTYPE))
        wf = tl.trans(load_weight(weight, head, 1, DH, BD, DTYPE))
        wz = tl.trans(load_weight(weight, head, 2, DH, BD, DTYPE))
        wo = tl.trans(load_weight(weight, head, 3, DH, BD, DTYPE))
    dh = tl.zeros((BB, BD), tl.float32)
    dc = tl.zeros((BB, BD), tl.float32)
    dn = tl.zeros((BB, BD), tl.float32)
    at_end = (head.to(tl.int64) * B + b[:, None]) * DH + d[None, :]
    if HAS_END:
        dh = tl.load(end_h + at_end, mask=inside, other=0.0)
        dc = tl.load(end_c + at_end, mask=inside, other=0.0)
        dn = tl.load(end_n + at_end, mask=inside, other=0.0)
    step_state = tl.full((), 1, tl.int64) * NH * B * DH
    at_state = at_end + step_state * S
    at_raw = (head.to(tl.int64) * B + b[:, None]) * 4 * DH + d[None, :] + step_state * 4 * (S - 1)
    at_out = ((b[:, None].to(tl.int64) * S + S - 1) * NH + head) * DH + d[None, :]
    at_grad = ((b[:, None].to(tl.int64) * S + S - 1) * 4 * NH + head) * DH + d[None, :]
    c = tl.load(states_c + at_state, mask=inside, other=0.0)
    n = tl.load(states_n + at_state, mask=inside, other=1.0)
    m = tl.load(states_m + at_state, mask=inside, other=0.0)
    at_state -= step_state
    i, f, z, o = load_gates(raw, at_raw, DH, inside)
    c_before = tl.load(states_c + at_state, mask=inside, other=0.0)
    n_before = tl.load(states_n + at_state, mask=inside, other=1.0)
    m_before = tl.load(states_m + at_state, mask=inside, other=0.0)
    given = tl.load(grad_outputs + at_out, mask=inside, other=0.0).to(tl.float32)
    real = b < B
    if HAS_MASK:
        real = tl.load(mask + b * S + S - 1, mask=b < B, other=0) != 0
    for back in range(S):
        t = S - 1 - back
        coming = inside & (t > 0)
        at_state -= step_state
        at_out -= NH * DH
        i_next, f_next, z_next, o_next = load_gates(raw, at_raw - step_state * 4, DH, coming)
        c_next = tl.load(states_c + at_state, mask=coming, other=0.0)
        n_next = tl.load(states_n + at_state, mask=coming, other=1.0)
        m_next = tl.load(states_m + at_state, mask=coming, other=0.0)
        given_next = tl.load(grad_outputs + at_out, mask=coming, other=0.0).to(tl.float32)
        real_next = real
        if HAS_MASK:
            real_next = tl.load(mask + b * S + t - 1, mask=(b < B) & (t > 0), other=0) != 0
            # The memory may still be empty at padding: numbers there are chosen away below.
            n = tl.where(real[:, None], n, 1.0)
            m = tl.where(real[:, None], m, 0.0)
            given = tl.where(real[:, None], given, 0.0)
        gain = dh + given
        log_i = i
        into_i = 1.0
        if SIGMOID:
            log_i = log_sigmoid(i)
            into_i = 1.0 - tl.sigmoid(i)
        keep = tl.exp(log_sigmoid(f) + m_before - m)
        write = tl.exp(log_i - m)
        squashed = tanh(z)
        opened = tl.sigmoid(o)
        h = opened * (c / n)
        dc_here = dc + gain * (opened / n)
        dn_here = dn - gain * (h / n)
        di = (dc_here * squashed + dn_here) * write * into_i
        df = (dc_here * c_before + dn_here * n_before) * keep * (1.0 - tl.sigmoid(f))
        dz = dc_here * write * (1.0 - squashed * squashed)
        do = gain * h * (1.0 - opened)
        if HAS_MASK:
            here = real[:, None]
            di = tl.where(here, di, 0.0)
            df = tl.where(here, df, 0.0)
            dz = tl.where(here, dz, 0.0)
            do = tl.where(here, do, 0.0)
            dc = tl.where(here, dc_here * keep, dc)
            dn = tl.where(here, dn_here * keep, dn)
        else:
            dc = dc_here * keep
            dn = dn_here * keep
        if HAS_EXTRA:
            more_i, more_f, _, _ = load_gates(extra, at_raw, DH, inside)
            di += more_i
            df += more_f
        store_gates(grad_gates, at_grad, NH * DH, inside, di, df, dz, do)
        if RESIDENT:
            through = tl.dot(di.to(DTYPE), wi, input_precision=PRECISION)
            through = tl.dot(df.to(DTYPE), wf, through, input_precision=PRECISION)
            through = tl.dot(dz.to(DTYPE), wz, through, input_precision=PRECISION)
            through = tl.dot(do.to(DTYPE), wo, through, input_precision=PRECISION)
        else:
            tl.debug_barrier()  # parts of them were stored by other threads
            at_row = ((b.to(tl.int64) * S + t) * 4 * NH + head) * DH
            through = gather_recurrent(
                grad_gates, at_row, NH * DH, weight, head, b < B, DH, BB, BK, BD, DTYPE, PRECISION
            )
        dh = tl.where(real[:, None], through, dh) if HAS_MASK else through
        at_raw -= step_state * 4
        at_grad -= 4 * NH * DH
        c, n, m = c_before, n_before, m_before
        i, f, z, o = i_next, f_next, z_next, o_next
        c_before, n_before, m_before = c_next, n_next, m_next
        given, real = given_next, real_next
    if HAS_STATE:
        tl.store(start_h + at_end, dh, mask=inside)
        tl.store(start_c + at_end, dc, mask=inside)
        tl.store(start_n + at_end, dn, mask=inside)


@direct
@triton.jit
def weight_backward(
    states_h, grad_gates, grad_weight, grad_bias, B, S, NH, DH, PER_PART,
    BT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of weight and bias from some positions and samples; program: head and gate, part of
    them, columns of the previous output."""
    head, gate = tl.program_id(0) // 4, tl.program_id(0) % 4
    part = tl.program_id(1)
    p = tl.program_id(2) * BP + tl.arange(0, BP)
    d = tl.arange(0, BD)
    total = tl.zeros((BP, BD), tl.float32)
    sums = tl.zeros((BD,), tl.float32)
    for first in range(part * PER_PART, (part + 1) * PER_PART, BT):
        # Positions before samples, as in the states.
        at = first + tl.arange(0, BT)
        t, b = (at // B).to(tl.int64), (at % B).to(tl.int64)
        inside = (at < S * B)[:, None]
        before = tl.load(
            states_h + ((t[:, None] * NH + head) * B + b[:, None]) * DH + p[None, :],
            mask=inside & (p < DH)[None, :],
            other=0.0,
        ).to(DTYPE)
        grads = tl.load(
            grad_gates + (((b[:, None] * S + t[:, None]) * 4 + gate) * NH + head) * DH + d[None, :],
            mask=inside & (d < DH)[None, :],
            other=0.0,
        ).to(DTYPE)
        total = tl.dot(tl.trans(before), grads, total, input_precision=PRECISION)
        sums += tl.sum(grads.to(tl.float32), 0)
    row = part * NH + head
    at_weight = ((row * DH + p[:, None]) * 4 + gate) * DH + d[None, :]
    tl.store(grad_weight + at_weight, total, mask=(p < DH)[:, None] & (d < DH)[None, :])
    if tl.program_id(2) == 0:
        tl.store(grad_bias + (row * 4 + gate) * DH + d, sums, mask=d < DH)
