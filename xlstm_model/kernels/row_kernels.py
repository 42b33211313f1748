"""Triton kernels that go over positions row by row: norms, and what an mLSTM block makes of its
cell's outputs.

A row is one position, R of them, a head one group of its features. Weights are stored as the
difference of a scale from 1. Gradients of weights are sums over the rows of each program, added up
afterwards in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from xlstm_model.kernels.launching import direct


@triton.jit
def load_rows(ptr, rows, stride, columns, real):
    """(BR, BD) float32 of a matrix with rows ``stride`` apart, 0 where not real."""
    at = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(ptr + at, mask=real, other=0.0).to(tl.float32)


@triton.jit
def store_rows(ptr, rows, stride, columns, real, values):
    """Undo ``load_rows``."""
    at = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(ptr + at, values.to(ptr.dtype.element_ty), mask=real)


@triton.jit
def standardize(x, real, D, eps, CENTER: tl.constexpr):
    """Rows with mean square 1, and mean 0 if CENTER, and what they were multiplied by."""
    if CENTER:
        x = tl.where(real, x - (tl.sum(x, 1) / D)[:, None], 0.0)
    factor = 1.0 / tl.sqrt(tl.sum(x * x, 1) / D + eps)
    return x * factor[:, None], factor


@triton.jit
def standardize_backward(grad, standard, factor, D, CENTER: tl.constexpr):
    """Gradient of what was standardised; both are 0 beyond the features."""
    found = grad - standard * (tl.sum(grad * standard, 1) / D)[:, None]
    if CENTER:
        found -= (tl.sum(grad, 1) / D)[:, None]
    return found * factor[:, None]


@triton.jit
def load_scale(weight, columns, is_feature, HAS_WEIGHT: tl.constexpr):
    """``1 + weight`` of some columns, 1 without a weight."""
    scale = tl.full(columns.shape, 1.0, tl.float32)
    if HAS_WEIGHT:
        scale += tl.load(weight + columns, mask=is_feature, other=0.0).to(tl.float32)
    return scale


@direct
@triton.jit
def normalize(
    x, weight, y, stride, R, NH, D, eps,
    HAS_WEIGHT: tl.constexpr, CENTER: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Scaled norm of each head; program: rows, head."""
    rows = tl.program_id(0) * BR + tl.arange(0, BR)
    d = tl.arange(0, BD)
    columns = tl.program_id(1) * D + d
    real = (rows < R)[:, None] & (d < D)[None, :]
    standard, _ = standardize(load_rows(x, rows, stride, columns, real), real, D, eps, CENTER)
    scale = load_scale(weight, columns, d < D, HAS_WEIGHT)
    store_rows(y, rows, NH * D, columns, real, standard * scale[None, :])


@direct
@triton.jit
def normalize_backward(
    x, weight, grad_y, grad_x, grad_weight, stride, R, NH, D, eps,
    HAS_WEIGHT: tl.constexpr, CENTER: tl.constexpr,
    TURNS: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Gradients of rows and weight; program: TURNS tiles of rows, head."""
    d = tl.arange(0, BD)
    columns = tl.program_id(1) * D + d
    scale = load_scale(weight, columns, d < D, HAS_WEIGHT)
    to_weight = tl.zeros((BD,), tl.float32)
    for turn in range(TURNS):
        rows = (tl.program_id(0) * TURNS + turn) * BR + tl.arange(0, BR)
        real = (rows < R)[:, None] & (d < D)[None, :]
        given = load_rows(x, rows, stride, columns, real)
        standard, factor = standardize(given, real, D, eps, CENTER)
        grad = load_rows(grad_y, rows, NH * D, columns, real)
        to_weight += tl.sum(grad * standard, 0)
        found = standardize_backward(grad * scale[None, :], standard, factor, D, CENTER)
        store_rows(grad_x, rows, NH * D, columns, real, found)
    if HAS_WEIGHT:
        at = tl.program_id(0).to(tl.int64) * NH * D + columns
        tl.store(grad_weight + at, to_weight, mask=d < D)


@direct
@triton.jit
def merge(
    h, mixed, z, weight, skip, out, h_stride, mixed_stride, z_stride, R, NH, D, eps,
    HAS_NORM: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """``(norm(h) + skip · mixed) · SiLU(z)``; program: rows, head."""
    rows = tl.program_id(0) * BR + tl.arange(0, BR)
    d = tl.arange(0, BD)
    columns = tl.program_id(1) * D + d
    real = (rows < R)[:, None] & (d < D)[None, :]
    merged = load_rows(h, rows, h_stride, columns, real)
    if HAS_NORM:
        merged, _ = standardize(merged, real, D, eps, True)
        merged *= load_scale(weight, columns, d < D, True)[None, :]
    share = tl.load(skip + columns, mask=d < D, other=0.0).to(tl.float32)
    merged += share[None, :] * load_rows(mixed, rows, mixed_stride, columns, real)
    gate = load_rows(z, rows, z_stride, columns, real)
    store_rows(out, rows, NH * D, columns, real, merged * (gate * tl.sigmoid(gate)))


@direct
@triton.jit
def merge_backward(
    h, mixed, z, weight, skip, grad_out, grad_h, grad_mixed, grad_z, grad_weight, grad_skip,
    h_stride, mixed_stride, z_stride, R, NH, D, eps,
    HAS_NORM: tl.constexpr, TURNS: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Gradients of all that ``merge`` reads; program: TURNS tiles of rows, head."""
    d = tl.arange(0, BD)
    columns = tl.program_id(1) * D + d
    scale = load_scale(weight, columns, d < D, HAS_NORM)
    share = tl.load(skip + columns, mask=d < D, other=0.0).to(tl.float32)
    to_weight = tl.zeros((BD,), tl.float32)
    to_skip = tl.zeros((BD,), tl.float32)
    for turn in range(TURNS):
        rows = (tl.program_id(0) * TURNS + turn) * BR + tl.arange(0, BR)
        real = (rows < R)[:, None] & (d < D)[None, :]
        standard = load_rows(h, rows, h_stride, columns, real)
        factor = tl.full((BR,), 1.0, tl.float32)
        if HAS_NORM:
            standard, factor = standardize(standard, real, D, eps, True)
        convolved = load_rows(mixed, rows, mixed_stride, columns, real)
        gate = load_rows(z, rows, z_stride, columns, real)
        grad = load_rows(grad_out, rows, NH * D, columns, real)
        open = tl.sigmoid(gate)
        merged = standard * scale[None, :] + share[None, :] * convolved
        to_gate = grad * merged * (open * (1.0 + gate * (1.0 - open)))
        store_rows(grad_z, rows, NH * D, columns, real, to_gate)
        grad *= gate * open
        store_rows(grad_mixed, rows, NH * D, columns, real, grad * share[None, :])
        to_skip += tl.sum(grad * convolved, 0)
        to_weight += tl.sum(grad * standard, 0)
        found = grad * scale[None, :]
        if HAS_NORM:
            found = standardize_backward(found, standard, factor, D, True)
        store_rows(grad_h, rows, NH * D, columns, real, found)
    at = tl.program_id(0).to(tl.int64) * NH * D + columns
    tl.store(grad_skip + at, to_skip, mask=d < D)
    if HAS_NORM:
        tl.store(grad_weight + at, to_weight, mask=d < D)
