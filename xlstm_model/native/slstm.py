"""The sLSTM's loops over time in compiled kernels; see ``cells.slstm_passes``."""

from __future__ import annotations

import torch
from torch import Tensor

from xlstm_model.native import library
from xlstm_model.native.library import fits

__all__ = ["fits", "run_backward", "run_forward"]


def run_forward(
    raw: Tensor, weight: Tensor, states: tuple[Tensor, ...], mask: Tensor | None, sigmoid: bool
) -> None:
    """Run the recurrence.

    Args:
        raw: Input's share of the gates with bias (S, NH, B, 4, DH), changed in place to the whole
            pre-activations.
        weight: Recurrent weight (NH, DH, 4 · DH).
        states: h, c, n, m at the borders, each (S + 1, NH, B, DH); entry 0 given, the others
            written.
        mask: Bool (B, S) or None.
        sigmoid: Whether the input gate is a sigmoid rather than an exponential.
    """
    S, NH, B, _, DH = raw.shape
    mask = None if mask is None else mask.contiguous()
    library.call("slstm_forward", [S, NH, B, DH, int(sigmoid)], [raw, weight, mask, *states], B)


def run_backward(
    raw: Tensor,
    weight: Tensor,
    states: tuple[Tensor, ...],
    mask: Tensor | None,
    sigmoid: bool,
    grad_h: Tensor,
    extra: Tensor | None,
    carry: list[Tensor],
) -> Tensor:
    """Run the gradient backwards over all positions.

    Args:
        raw: Whole pre-activations (S, NH, B, 4, DH).
        weight: Recurrent weight (NH, DH, 4 · DH).
        states: h, c, n, m at the borders, each (S + 1, NH, B, DH).
        mask: Bool (B, S) or None.
        sigmoid: As in ``run_forward``.
        grad_h: Gradient of the outputs (B, S, NH, DH), anything at padding.
        extra: Further gradient of the pre-activations (S, NH, B, 4, DH) or None.
        carry: Gradients of the final h, c and n, each (NH, B, DH), contiguous; changed in place to
            those of the first.

    Returns:
        Gradient of the pre-activations (S, NH, B, 4, DH).
    """
    S, NH, B, _, DH = raw.shape
    mask = None if mask is None else mask.contiguous()
    grad_h = grad_h if grad_h.stride(-1) == 1 else grad_h.contiguous()
    grad_raw = torch.empty_like(raw)
    transposed = weight.transpose(1, 2).contiguous()
    sizes = [S, NH, B, DH, int(sigmoid), *grad_h.stride()[:3]]
    tensors = [raw, transposed, mask, *states, grad_h, extra, *carry, grad_raw]
    library.call("slstm_backward", sizes, tensors, B)
    return grad_raw
