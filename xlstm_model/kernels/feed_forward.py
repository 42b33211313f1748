"""What stands between the two maps of a gated feed-forward layer on GPUs, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from xlstm_model.kernels import library
from xlstm_model.tracing import refuse_double_backward

NUMBERS = 1024
"""Results per program."""


def fits(x: Tensor) -> bool:
    """Whether the kernels can run on (..., 2 · I)."""
    return library.fits_layer(x) and x.numel() > 0


def gated_units(x: Tensor, is_gelu: bool) -> Tensor:
    """``act(gate) · up`` of (..., 2 · I) that holds the gates first: (..., I).

    Args:
        x: (..., 2 · I).
        is_gelu: GELU in its erf form, otherwise SiLU.
    """
    return GatedUnits.apply(x, is_gelu)


class GatedUnits(torch.autograd.Function):
    """``gated_units`` with its gradient, recomputed from the input."""

    @staticmethod
    def forward(ctx, x, is_gelu):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import feed_forward_kernels as kernels

        x = x.detach().contiguous()
        inner = x.shape[-1] // 2
        y = torch.empty(*x.shape[:-1], inner, dtype=x.dtype, device=x.device)
        kernels.gate_units[(-(-y.numel() // NUMBERS),)](
            x, y, y.numel(), inner, GELU=is_gelu, BLOCK=NUMBERS, num_warps=4
        )
        ctx.save_for_backward(x)
        ctx.is_gelu = is_gelu
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from xlstm_model.kernels import feed_forward_kernels as kernels

        refuse_double_backward(library.ALTERNATIVE)
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        kernels.gate_units_backward[(-(-grad.numel() // NUMBERS),)](
            x, grad.contiguous(), grad_x, grad.numel(), x.shape[-1] // 2, GELU=ctx.is_gelu,
            BLOCK=NUMBERS, num_warps=4,
        )  # fmt: skip
        return grad_x, None
