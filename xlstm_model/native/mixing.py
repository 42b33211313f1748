"""Fused layers around the cells in compiled kernels; ``layers.fused`` says what they compute."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from xlstm_model.native import library
from xlstm_model.tracing import refuse_double_backward

ALTERNATIVE = "xlstm_model.native.library.disabled()"
"""What runs the same in operations that can be differentiated twice."""

GROUP_SIZE = 4
"""Width of the groups of block-diagonal projections that the kernels know."""

MAX_TAPS = 8
"""Widest convolution that the kernels know."""


class MixParameters(NamedTuple):
    """Weights of what stands before a cell, as the layers hold them; None where there is none."""

    taps: Tensor | None = None
    """Of the convolution (C, 1, taps)."""
    bias: Tensor | None = None
    """Of the convolution (C)."""
    q: Tensor | None = None
    """Block-diagonal projection (C / 4, 4, 4)."""
    k: Tensor | None = None
    """Block-diagonal projection (C / 4, 4, 4)."""
    v: Tensor | None = None
    """Block-diagonal projection (C / 4, 4, 4)."""
    igate: Tensor | None = None
    """Over q, k and v side by side (NH, 3 C)."""
    fgate: Tensor | None = None
    """Over q, k and v side by side (NH, 3 C)."""
    igate_bias: Tensor | None = None
    """(NH)."""
    fgate_bias: Tensor | None = None
    """(NH)."""


class Mix(torch.autograd.Function):
    """Convolution, SiLU and, where given, projections and gates of a whole sequence.

    Returns the mixed sequence, and q, k, v (B, S, C) and the gates (B, S, gates) or None.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, state: Tensor | None, mask: Tensor | None, *weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """x: (B, S, C), rows contiguous; state: (B, taps - 1, C); mask: bool (B, S)."""
        # Both passes read it by its place in memory, and the second writes its gradient so.
        state = None if state is None else state.contiguous()
        mask = None if mask is None else mask.contiguous()
        outputs = _mix_forward(x, state, mask, MixParameters(*weights))
        ctx.save_for_backward(x, state, mask, *weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x, state and weights."""
        refuse_double_backward(ALTERNATIVE)
        x, state, mask, *weights = ctx.saved_tensors
        given = MixParameters(*weights)
        B, S, C = x.shape
        sizes = _mix_sizes(x, given)
        # In the order the kernel leaves them; there is room for a bias even without one.
        widths = [0 if w is None else w.numel() for w in given]
        widths[1] = C
        sums = x.new_empty(library.num_parts(B), sum(widths))
        grad_x = x.new_empty(B, S, C)
        grad_state = None if state is None else torch.empty_like(state)
        ups = [None if grad is None else grad.contiguous() for grad in grads]
        pointers = [x, state, mask, *_contiguous(given), *ups, grad_x, grad_state, sums]
        library.call("mix_backward", [*sizes, sums.shape[1]], pointers, B)
        total = sums[0] if len(sums) == 1 else sums.sum(0)
        results = (
            None if weight is None else part.view(weight.shape)
            for weight, part in zip(given, total.split(widths), strict=True)
        )
        return grad_x, grad_state, None, *results


def mix(
    x: Tensor, state: Tensor | None, mask: Tensor | None, *weights: Tensor | None
) -> tuple[Tensor | None, ...]:
    """``Mix``, without what gradients need where there are none."""
    if torch.is_grad_enabled():
        return Mix.apply(x, state, mask, *weights)
    return _mix_forward(x, state, mask, MixParameters(*weights))


def _mix_forward(
    x: Tensor, state: Tensor | None, mask: Tensor | None, given: MixParameters
) -> tuple[Tensor | None, ...]:
    B, S, C = x.shape
    state = None if state is None else state.contiguous()
    mask = None if mask is None else mask.contiguous()
    sizes = _mix_sizes(x, given)
    mixed = x.new_empty(B, S, C)
    outputs: list[Tensor | None] = [None] * 4
    if given.igate is not None:
        outputs = [x.new_empty(B, S, width) for width in (C, C, C, sizes[-1])]
    pointers = [x, state, mask, *_contiguous(given), mixed, *outputs]
    library.call("mix_forward", sizes, pointers, B)
    return mixed, *outputs


def _mix_sizes(x: Tensor, given: MixParameters) -> list[int]:
    taps = 0 if given.taps is None else given.taps.shape[-1]
    gates = 0 if given.igate is None else 2 * len(given.igate)
    return [*x.shape, x.stride(1), taps, gates]


def _contiguous(given: MixParameters) -> list[Tensor | None]:
    return [None if weight is None else weight.contiguous() for weight in given]


class Merge(torch.autograd.Function):
    """``(norm(h) * scale + skip * mixed) * silu(z)``, the norm over each head, or no norm."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        mixed: Tensor,
        z: Tensor,
        scale: Tensor | None,
        skip: Tensor,
        eps: float,
    ) -> Tensor:
        """h: (B, S, heads, width) contiguous; mixed, z: (B, S, C), rows contiguous."""
        out = _merge_forward(h, mixed, z, scale, skip, eps)
        ctx.save_for_backward(h, mixed, z, scale, skip)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of h, mixed, z, scale and skip."""
        refuse_double_backward(ALTERNATIVE)
        h, mixed, z, scale, skip = ctx.saved_tensors
        sizes = _merge_sizes(h, mixed, z, scale)
        grads = [torch.empty_like(h), h.new_empty(mixed.shape), h.new_empty(mixed.shape)]
        sums = h.new_zeros(library.num_parts(sizes[0]), 2, skip.numel())
        pointers = [h, mixed, z, scale, skip, grad.contiguous(), *grads, sums]
        library.call("merge_backward", sizes, pointers, sizes[0], [ctx.eps])
        of_scale, of_skip = sums.sum(0)
        return *grads, None if scale is None else of_scale, of_skip, None


def merge(
    h: Tensor, mixed: Tensor, z: Tensor, scale: Tensor | None, skip: Tensor, eps: float
) -> Tensor:
    """``Merge``, without what gradients need where there are none."""
    work = Merge.apply if torch.is_grad_enabled() else _merge_forward
    return work(h, mixed, z, scale, skip, eps)


def _merge_forward(
    h: Tensor, mixed: Tensor, z: Tensor, scale: Tensor | None, skip: Tensor, eps: float
) -> Tensor:
    out = h.new_empty(mixed.shape)
    sizes = _merge_sizes(h, mixed, z, scale)
    library.call("merge_forward", sizes, [h, mixed, z, scale, skip, out], sizes[0], [eps])
    return out


def _merge_sizes(h: Tensor, mixed: Tensor, z: Tensor, scale: Tensor | None) -> list[int]:
    B, S, heads, width = h.shape
    return [B * S, heads, width, mixed.stride(1), z.stride(1), int(scale is not None)]
