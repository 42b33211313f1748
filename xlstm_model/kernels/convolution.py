"""The causal convolution over time with the SiLU behind it on GPUs, in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from xlstm_model.kernels import library
from xlstm_model.tracing import refuse_double_backward

MOST_TAPS = 8
MOST_TILES = 65_535
"""What CUDA allows in the second direction of a grid; positions in the first, which allows more,
take half as many registers again."""
POSITIONS = 16
"""Per tile."""
CHANNELS = 64
"""Per program."""
TURNS = 4
"""Tiles of positions per program of the backward pass."""


def fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels can run on (B, S, C) with weight (C, 1, K)."""
    if weight.shape[-1] > MOST_TAPS or not library.fits_layer(x, weight, bias):
        return False
    is_even = x.dim() == 3 and x.shape[-1] == weight.shape[0]
    return is_even and x.numel() > 0 and x.shape[1] <= MOST_TILES * POSITIONS


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``layers.conv_silu`` of whole sequences without a state before them.

    Args:
        x: (B, S, C).
        weight: (C, 1, K).
        bias: (C) or None.

    Returns:
        (B, S, C), in autocast's dtype where that is on.
    """
    is_cast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if is_cast else x.dtype
    return ConvSiLU.apply(x, weight, bias, dtype)


class ConvSiLU(torch.autograd.Function):
    """``conv_silu`` with its gradient, recomputed from the input."""

    @staticmethod
    def forward(ctx, x, weight, bias, dtype):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import convolution_kernels as kernels

        x = x.detach() if x.stride(-1) == 1 else x.detach().contiguous()
        weight, bias = (None if w is None else w.detach().contiguous() for w in (weight, bias))
        B, S, C = x.shape
        y = torch.empty(B, S, C, dtype=dtype, device=x.device)
        kernels.convolve_forward[(B, -(-S // POSITIONS), -(-C // CHANNELS))](
            x, weight, bias, y, x.stride(0), x.stride(1), S, C, HAS_BIAS=bias is not None,
            K=weight.shape[-1], T=POSITIONS, BC=CHANNELS, num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import convolution_kernels as kernels

        refuse_double_backward(library.ALTERNATIVE)
        x, weight, bias = ctx.saved_tensors
        (B, S, C), K = x.shape, weight.shape[-1]
        segments = -(-S // (POSITIONS * TURNS))
        wide = {"dtype": torch.float32, "device": x.device}
        grad_x = torch.empty(B, S, C, dtype=x.dtype, device=x.device)
        to_weight, to_bias = torch.empty(B * segments, C, 1, K, **wide), None
        if bias is not None:
            to_bias = torch.empty(B * segments, C, **wide)
        kernels.convolve_backward[(B, segments, -(-C // CHANNELS))](
            x, weight, bias, grad.contiguous(), grad_x, to_weight, to_bias, x.stride(0),
            x.stride(1), S, C, HAS_BIAS=bias is not None, K=K,
            KP=1 << (K - 1).bit_length(), TURNS=TURNS, T=POSITIONS, BC=CHANNELS, num_warps=4,
        )  # fmt: skip
        grad_bias = None if bias is None else to_bias.sum(0).to(bias.dtype)
        return grad_x, to_weight.sum(0).to(weight.dtype), grad_bias, None
