"""Triton kernels of the causal convolution over time with the SiLU behind it.

``y_t = SiLU(b + Σ_j w_j · x_{t - (K - 1) + j})`` per channel; see ``layers.CausalConv1d``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct


@triton.jit
def convolve(
    x, weight, bias, t, c, S, C, stride, HAS_BIAS: tl.constexpr, K: tl.constexpr,
    T: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Positions ``t`` (T) of one sample, before the SiLU; zeros stand before the first."""
    total = tl.zeros((T, BC), tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    for tap in tl.static_range(K):
        w = tl.load(weight + c * K + tap, mask=c < C, other=0.0).to(tl.float32)
        total += w[None, :] * load_positions(x, t + (tap - (K - 1)), c, S, C, stride)
    return total


@triton.jit
def load_positions(ptr, t, c, S, C, stride):
    """(T, BC) float32 of one sample, 0 outside of it."""
    inside = ((t >= 0) & (t < S))[:, None] & (c < C)[None, :]
    at = t.to(tl.int64)[:, None] * stride + c[None, :]
    return tl.load(ptr + at, mask=inside, other=0.0).to(tl.float32)


@direct
@triton.jit
def convolve_forward(
    x, weight, bias, y, x_b, x_s, S, C,
    HAS_BIAS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Program: sample, positions, channels."""
    sample = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * T + tl.arange(0, T)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    total = convolve(x + sample * x_b, weight, bias, t, c, S, C, x_s, HAS_BIAS, K, T, BC)
    inside = (t < S)[:, None] & (c < C)[None, :]
    at = y + sample * S * C + t.to(tl.int64)[:, None] * C + c[None, :]
    tl.store(at, (total * tl.sigmoid(total)).to(y.dtype.element_ty), mask=inside)


@direct
@triton.jit
def convolve_backward(
    x, weight, bias, grad_y, grad_x, grad_weight, grad_bias, x_b, x_s, S, C,
    HAS_BIAS: tl.constexpr, K: tl.constexpr, KP: tl.constexpr,
    TURNS: tl.constexpr, T: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradients of inputs, and of the weights from these positions; program: sample, TURNS tiles of
    positions, channels."""
    sample = tl.program_id(0).to(tl.int64)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    x += sample * x_b
    grad_y += sample * S * C
    to_weight = tl.zeros((KP, BC), tl.float32)
    to_bias = tl.zeros((BC,), tl.float32)
    for turn in range(TURNS):
        t = (tl.program_id(1) * TURNS + turn) * T + tl.arange(0, T)
        found = tl.zeros((T, BC), tl.float32)
        for later in tl.static_range(K):
            total = convolve(x, weight, bias, t + later, c, S, C, x_s, HAS_BIAS, K, T, BC)
            open = tl.sigmoid(total)
            grad = load_positions(grad_y, t + later, c, S, C, C)
            grad *= open * (1.0 + total * (1.0 - open))
            w = tl.load(weight + c * K + (K - 1 - later), mask=c < C, other=0.0).to(tl.float32)
            found += w[None, :] * grad
            if later == 0:
                to_bias += tl.sum(grad, 0)
                for tap in tl.static_range(K):
                    before = load_positions(x, t + (tap - (K - 1)), c, S, C, x_s)
                    share = tl.sum(grad * before, 0)[None, :]
                    to_weight += tl.where((tl.arange(0, KP) == tap)[:, None], share, 0.0)
        inside = (t < S)[:, None] & (c < C)[None, :]
        at = grad_x + sample * S * C + t.to(tl.int64)[:, None] * C + c[None, :]
        tl.store(at, found.to(grad_x.dtype.element_ty), mask=inside)
    part = sample * tl.num_programs(1) + tl.program_id(1)
    taps = tl.arange(0, KP)
    at = grad_weight + part * C * K + c[None, :] * K + taps[:, None]
    tl.store(at, to_weight, mask=(taps < K)[:, None] & (c < C)[None, :])
    if HAS_BIAS:
        tl.store(grad_bias + part * C + c, to_bias, mask=c < C)
