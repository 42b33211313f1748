"""Triton kernels of the gate of a feed-forward layer: rows of I gates and then I numbers."""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct

SQRT_HALF: tl.constexpr = tl.constexpr(0.7071067811865476)
DENSITY: tl.constexpr = tl.constexpr(0.3989422804014327)
"""Of the normal distribution at 0."""


@triton.jit
def activate(gate, GELU: tl.constexpr):
    """The activation and its slope."""
    if GELU:
        share = 0.5 * (1.0 + tl.erf(gate * SQRT_HALF))
        slope = share + gate * DENSITY * tl.exp(-0.5 * gate * gate)
    else:
        share = tl.sigmoid(gate)
        slope = share * (1.0 + gate * (1.0 - share))
    return gate * share, slope


@triton.jit
def load_pairs(x, at, total, inner):
    """Gates and numbers behind the results ``at``, and where the gates stand."""
    place = (at // inner).to(tl.int64) * (2 * inner) + at % inner
    gate = tl.load(x + place, mask=at < total, other=0.0).to(tl.float32)
    up = tl.load(x + place + inner, mask=at < total, other=0.0).to(tl.float32)
    return gate, up, place


@direct
@triton.jit
def gate_units(x, y, total, inner, GELU: tl.constexpr, BLOCK: tl.constexpr):
    """Program: BLOCK results."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    gate, up, _ = load_pairs(x, at, total, inner)
    active, _ = activate(gate, GELU)
    tl.store(y + at, (active * up).to(y.dtype.element_ty), mask=at < total)


@direct
@triton.jit
def gate_units_backward(
    x, grad_y, grad_x, total, inner, GELU: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Program: BLOCK results."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    gate, up, place = load_pairs(x, at, total, inner)
    grad = tl.load(grad_y + at, mask=at < total, other=0.0).to(tl.float32)
    active, slope = activate(gate, GELU)
    TYPE: tl.constexpr = grad_x.dtype.element_ty
    tl.store(grad_x + place, (grad * up * slope).to(TYPE), mask=at < total)
    tl.store(grad_x + place + inner, (grad * active).to(TYPE), mask=at < total)
