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
    """Weights of what stands before a cell, each in the kernels' own layout."""

    taps: Tensor | None
    """(taps, C), the last row the current position."""
    bias: Tensor | None
    """(C)."""
    projections: Tensor | None
    """Block-diagonal weights of q, k, v (3, C / 4, 4, 4)."""
    gates: Tensor | None
    """Weights of the gates over q, k and v (gates, 3, C)."""
    gate_bias: Tensor | None
    """(gates)."""


def rotations(blocks: Tensor) -> Tensor:
    """4 × 4 blocks (3, G, out, in) as coefficients of rotations (3, 4, 4 G).

    Coefficient j of output o multiplies input (o + j) mod 4 of the same group.

    >>> rotations(torch.arange(16.0).view(1, 1, 4, 4))[0, 1]
    tensor([ 1.,  6., 11., 12.])
    """
    unit = torch.arange(GROUP_SIZE, device=blocks.device)
    picked = blocks[:, :, unit, (unit + unit.unsqueeze(1)) % GROUP_SIZE]  # (3, G, j, o)
    return picked.transpose(1, 2).flatten(2).contiguous()


def from_rotations(coefficients: Tensor) -> Tensor:
    """Undo ``rotations``: (3, 4, 4 G) to (3, G, out, in)."""
    picked = coefficients.unflatten(2, (-1, GROUP_SIZE)).transpose(1, 2)  # (3, G, j, o)
    unit = torch.arange(GROUP_SIZE, device=coefficients.device)
    blocks = torch.empty_like(picked)
    blocks[:, :, unit, (unit + unit.unsqueeze(1)) % GROUP_SIZE] = picked
    return blocks


class Mix(torch.autograd.Function):
    """Convolution, SiLU and, where given, projections and gates of a whole sequence.

    Returns the mixed sequence, and q, k, v (B, S, C) and the gates (B, S, gates) or None.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, state: Tensor | None, mask: Tensor | None, *weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """x: (B, S, C), rows contiguous; state: (B, taps - 1, C); mask: bool (B, S)."""
        given = MixParameters(*weights)
        B, S, C = x.shape
        if state is not None:
            state = state.contiguous()
        mask = None if mask is None else mask.contiguous()
        sizes = [B, S, C, x.stride(1), _count(given.taps), _count(given.gates)]
        pointers = [x, state, mask, *_packed(given)]
        mixed = x.new_empty(B, S, C)
        outputs: list[Tensor | None] = [None] * 4
        if given.gates is not None:
            outputs = [x.new_empty(B, S, width) for width in (C, C, C, len(given.gates))]
        library.call("mix_forward", sizes, [*pointers, mixed, *outputs], B)
        ctx.save_for_backward(x, state, mask, *weights)
        return mixed, *outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x, state and weights."""
        refuse_double_backward(ALTERNATIVE)
        x, state, mask, *weights = ctx.saved_tensors
        given = MixParameters(*weights)
        (B, S, C), taps, gates = x.shape, _count(given.taps), _count(given.gates)
        widths = [taps * C, C, 3 * GROUP_SIZE * C if gates else 0, gates * 3 * C]
        sums = x.new_zeros(library.num_parts(B), sum(widths))
        grad_x = x.new_empty(B, S, C)
        grad_state = None if state is None else torch.empty_like(state)
        sizes = [B, S, C, x.stride(1), taps, gates, sums.shape[1]]
        ups = [None if grad is None else grad.contiguous() for grad in grads]
        pointers = [x, state, mask, *_packed(given), *ups, grad_x, grad_state, sums]
        library.call("mix_backward", sizes, pointers, B)
        of_taps, of_bias, of_projections, of_gates = sums.sum(0).split(widths)
        results = MixParameters(
            None if given.taps is None else of_taps.view(taps, C),
            None if given.bias is None else of_bias,
            None if not gates else from_rotations(of_projections.view(3, GROUP_SIZE, C)),
            None if not gates else of_gates.view(gates, 3, C),
            None if not gates else grads[4].sum((0, 1)),
        )
        return grad_x, grad_state, None, *results


def _count(weight: Tensor | None) -> int:
    return 0 if weight is None else len(weight)


def _packed(given: MixParameters) -> list[Tensor | None]:
    turned = None
    if given.projections is not None:
        turned = rotations(given.projections.transpose(2, 3))
        given = given._replace(projections=rotations(given.projections))
    taps, bias, projections, gates, gate_bias = (
        None if weight is None else weight.contiguous() for weight in given
    )
    return [taps, bias, projections, turned, gates, gate_bias]


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
        out = h.new_empty(mixed.shape)
        sizes = _merge_sizes(h, mixed, z, scale)
        library.call("merge_forward", sizes, [h, mixed, z, scale, skip, out], sizes[0], [eps])
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


def _merge_sizes(h: Tensor, mixed: Tensor, z: Tensor, scale: Tensor | None) -> list[int]:
    B, S, heads, width = h.shape
    return [B * S, heads, width, mixed.stride(1), z.stride(1), int(scale is not None)]
