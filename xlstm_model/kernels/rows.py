"""Norms over features on GPUs, and what an mLSTM block makes of its cell's outputs.

PyTorch's norm moves an eighth of the bytes a second that memory could at the widths of recommenders
and keeps its results in float32; its neighbours each go through memory once more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.kernels import library
from xlstm_model.kernels.library import ALTERNATIVE
from xlstm_model.tracing import refuse_double_backward

WIDEST = 8192
"""Features of a group that a program holds at once."""
TILE = 2048
"""Numbers of each tensor that a program holds at once, but for wider groups."""
TURNS = 4
"""Tiles of rows per program of a backward pass."""


class Cut(NamedTuple):
    """How rows are shared out."""

    rows: int
    """Per tile."""
    width: int
    """Columns per tile, a power of two."""
    warps: int


def fits(head_dim: int, *tensors: Tensor | None) -> bool:
    """Whether the kernels can run on groups of so many features of these tensors."""
    if head_dim > WIDEST or not library.fits_layer(*tensors):
        return False
    return all(x is None or x.numel() > 0 for x in tensors)


def cut(head_dim: int, tile: int = TILE) -> Cut:
    """How to cut groups of so many features.

    >>> cut(100)
    Cut(rows=16, width=128, warps=4)
    """
    width = library.power_of_two(head_dim)
    return Cut(max(1, tile // width), width, 4 if width <= TILE else 8)


def as_rows(x: Tensor, width: int) -> Tensor:
    """The same numbers as (R, width) whose features lie side by side; mostly no copy."""
    rows = x.detach().reshape(-1, width)
    return rows if rows.stride(1) == 1 else rows.contiguous()


def normalize(
    x: Tensor,
    weight: Tensor | None,
    num_heads: int,
    *,
    center: bool,
    eps: float,
    for_product: bool = False,
) -> Tensor:
    """Norm of each of ``num_heads`` groups of features, scaled by ``1 + weight``.

    Args:
        x: (..., NH · DH).
        weight: (NH · DH), None for a scale of 1.
        num_heads: NH.
        center: Subtract the mean first.
        eps: Added to the variance or mean square.
        for_product: Return autocast's dtype where that is on, as a matrix product reads it next.

    Returns:
        As ``x``; under autocast float32, as PyTorch's norms, unless ``for_product``.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type) if for_product else torch.float32
    return Normalize.apply(x, weight, num_heads, center, eps, dtype)


class Normalize(torch.autograd.Function):
    """``normalize`` with its gradient, recomputed from the input."""

    @staticmethod
    def forward(ctx, x, weight, num_heads, center, eps, dtype):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import row_kernels as kernels

        width = x.shape[-1]
        rows, head_dim = as_rows(x, width), width // num_heads
        tile = cut(head_dim)
        y = torch.empty(x.shape, dtype=dtype, device=x.device)
        weight = None if weight is None else weight.detach().contiguous()
        kernels.normalize[(-(-len(rows) // tile.rows), num_heads)](
            rows, weight, y, rows.stride(0), len(rows), num_heads, head_dim, eps,
            HAS_WEIGHT=weight is not None, CENTER=center, BR=tile.rows, BD=tile.width,
            num_warps=tile.warps,
        )  # fmt: skip
        ctx.save_for_backward(rows, weight)
        ctx.settings = (num_heads, center, eps)
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import row_kernels as kernels

        refuse_double_backward(ALTERNATIVE)
        rows, weight = ctx.saved_tensors
        num_heads, center, eps = ctx.settings
        head_dim = rows.shape[1] // num_heads
        tile = cut(head_dim)
        parts = -(-len(rows) // (tile.rows * TURNS))
        grad_x = torch.empty(grad.shape, dtype=rows.dtype, device=rows.device)
        to_weight = None
        if weight is not None:
            to_weight = torch.empty(parts, len(weight), dtype=torch.float32, device=rows.device)
        kernels.normalize_backward[(parts, num_heads)](
            rows, weight, grad.contiguous(), grad_x, to_weight, rows.stride(0), len(rows),
            num_heads, head_dim, eps, HAS_WEIGHT=weight is not None, CENTER=center, TURNS=TURNS,
            BR=tile.rows, BD=tile.width, num_warps=tile.warps,
        )  # fmt: skip
        grad_weight = None if weight is None else to_weight.sum(0).to(weight.dtype)
        return grad_x, grad_weight, None, None, None, None


def merge(
    h: Tensor,
    mixed: Tensor,
    z: Tensor,
    weight: Tensor | None,
    skip: Tensor,
    num_heads: int,
    eps: float,
) -> Tensor:
    """``(norm(h) + skip · mixed) · SiLU(z)``; see ``layers.gated_merge``.

    Args:
        h: (..., C).
        mixed: (..., C).
        z: (..., C).
        weight: Of the norm of each of ``num_heads`` groups (C), None for no norm.
        skip: (C).
        num_heads: Groups of the norm.
        eps: Of the norm.

    Returns:
        (..., C); under autocast in its dtype, as a matrix product reads it next.
    """
    is_cast = torch.is_autocast_enabled(h.device.type)
    dtype = torch.get_autocast_dtype(h.device.type) if is_cast else z.dtype
    return Merge.apply(h, mixed, z, weight, skip, num_heads, eps, dtype)


class Merge(torch.autograd.Function):
    """``merge`` with its gradient, recomputed from the inputs."""

    @staticmethod
    def forward(ctx, h, mixed, z, weight, skip, num_heads, eps, dtype):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import row_kernels as kernels

        width = z.shape[-1]
        rows = [as_rows(x, width) for x in (h, mixed, z)]
        weight, skip = (None if x is None else x.detach().contiguous() for x in (weight, skip))
        head_dim, R = width // num_heads, len(rows[0])
        tile = cut(head_dim)
        out = torch.empty(z.shape, dtype=dtype, device=z.device)
        kernels.merge[(-(-R // tile.rows), num_heads)](
            *rows, weight, skip, out, *(x.stride(0) for x in rows), R, num_heads, head_dim, eps,
            HAS_NORM=weight is not None, BR=tile.rows, BD=tile.width, num_warps=tile.warps,
        )  # fmt: skip
        ctx.save_for_backward(*rows, weight, skip)
        ctx.settings = (num_heads, eps)
        ctx.shapes = (h.shape, mixed.shape, z.shape)
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import row_kernels as kernels

        refuse_double_backward(ALTERNATIVE)
        *rows, weight, skip = ctx.saved_tensors
        num_heads, eps = ctx.settings
        head_dim, R = len(skip) // num_heads, len(rows[0])
        tile = cut(head_dim, TILE // 2)
        parts = -(-R // (tile.rows * TURNS))
        grads = [
            torch.empty(shape, dtype=x.dtype, device=x.device)
            for shape, x in zip(ctx.shapes, rows, strict=True)
        ]
        to_weights = torch.empty(2, parts, len(skip), dtype=torch.float32, device=skip.device)
        kernels.merge_backward[(parts, num_heads)](
            *rows, weight, skip, grad.contiguous(), *grads, *to_weights,
            *(x.stride(0) for x in rows), R, num_heads, head_dim, eps,
            HAS_NORM=weight is not None, TURNS=TURNS, BR=tile.rows, BD=tile.width,
            num_warps=tile.warps,
        )  # fmt: skip
        to_skip = to_weights[1].sum(0).to(skip.dtype)
        to_weight = None if weight is None else to_weights[0].sum(0).to(weight.dtype)
        return *grads, to_weight, to_skip, None, None, None
