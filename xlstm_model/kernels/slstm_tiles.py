"""Parts of the sLSTM's Triton kernels: weights, what they multiply, and gates, tile by tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """Hyperbolic tangent to an absolute error of float32's resolution."""
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit
def load_weight(ptr, head, gate: tl.constexpr, DH, BD: tl.constexpr, DTYPE: tl.constexpr):
    """(from, to) of one gate of (NH, DH, 4, DH)."""
    d = tl.arange(0, BD)
    inside = (d < DH)[:, None] & (d < DH)[None, :]
    at = ((head * DH + d[:, None]) * 4 + gate) * DH + d[None, :]
    return tl.load(ptr + at, mask=inside, other=0.0).to(DTYPE)


@triton.jit
def add_recurrent(
    i, f, z, o, states_h, at_before, weight, head, inside, DH,
    BK: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Four gates with what the output before them adds, BK units of it at a time from memory."""
    d = tl.arange(0, BD)
    for first in tl.range(0, DH, BK, num_stages=1):
        p = first + tl.arange(0, BK)
        is_unit = inside[:, None] & (p < DH)[None, :]
        before = tl.load(states_h + at_before[:, None] + p[None, :], mask=is_unit, other=0.0)
        before = before.to(DTYPE)
        at = weight + (head * DH + p[:, None]) * 4 * DH + d[None, :]
        real = (p < DH)[:, None] & (d < DH)[None, :]
        w = tl.load(at, mask=real, other=0.0).to(DTYPE)
        i = tl.dot(before, w, i, input_precision=PRECISION)
        w = tl.load(at + DH, mask=real, other=0.0).to(DTYPE)
        f = tl.dot(before, w, f, input_precision=PRECISION)
        w = tl.load(at + 2 * DH, mask=real, other=0.0).to(DTYPE)
        z = tl.dot(before, w, z, input_precision=PRECISION)
        w = tl.load(at + 3 * DH, mask=real, other=0.0).to(DTYPE)
        o = tl.dot(before, w, o, input_precision=PRECISION)
    return i, f, z, o


@triton.jit
def gather_recurrent(
    grad_gates, at_grad, step_gate, weight, head, inside, DH, BB: tl.constexpr,
    BK: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the output before four gates, BK units of each at a time from memory."""
    p = tl.arange(0, BD)
    total = tl.zeros((BB, BD), tl.float32)
    for first in tl.range(0, DH, BK, num_stages=1):
        d = first + tl.arange(0, BK)
        is_unit = inside[:, None] & (d < DH)[None, :]
        real = (p < DH)[:, None] & (d < DH)[None, :]
        for gate in tl.static_range(4):
            at = grad_gates + at_grad[:, None] + gate * step_gate + d[None, :]
            grad = tl.load(at, mask=is_unit, other=0.0).to(DTYPE)
            at_weight = weight + ((head * DH + p[:, None]) * 4 + gate) * DH + d[None, :]
            w = tl.trans(tl.load(at_weight, mask=real, other=0.0).to(DTYPE))
            total = tl.dot(grad, w, total, input_precision=PRECISION)
    return total


@triton.jit
def load_gates(ptr, at, step_gate, inside):
    """Four (BB, BD) tiles, float32."""
    i = tl.load(ptr + at, mask=inside, other=0.0).to(tl.float32)
    f = tl.load(ptr + at + step_gate, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(ptr + at + 2 * step_gate, mask=inside, other=0.0).to(tl.float32)
    o = tl.load(ptr + at + 3 * step_gate, mask=inside, other=0.0).to(tl.float32)
    return i, f, z, o


@triton.jit
def store_gates(ptr, at, step_gate, inside, i, f, z, o):
    """Undo ``load_gates``."""
    TYPE: tl.constexpr = ptr.dtype.element_ty
    tl.store(ptr + at, i.to(TYPE), mask=inside)
    tl.store(ptr + at + step_gate, f.to(TYPE), mask=inside)
    tl.store(ptr + at + 2 * step_gate, z.to(TYPE), mask=inside)
    tl.store(ptr + at + 3 * step_gate, o.to(TYPE), mask=inside)
