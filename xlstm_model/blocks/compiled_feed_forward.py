"""The second half of the sLSTM block in one compiled pass forward and one backward.

Only its input is kept for the backward pass, which computes the rest again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xlstm_model.blocks.plain import (
    Weights,
    can_read,
    feed_forward_weights,
    is_dropping,
    nobody_watches,
)
from xlstm_model.native import library
from xlstm_model.tracing import refuse_double_backward

if TYPE_CHECKING:
    from xlstm_model.blocks.slstm import SLSTMBlock

ALTERNATIVE = "xlstm_model.native.library.disabled()"
"""What runs the same in operations that can be differentiated twice."""


def feed_forward_pass(block: SLSTMBlock, y: Tensor) -> Tensor | None:
    """Norm, feed-forward layer and residual; None where the kernel can't stand for the layers.

    Args:
        block: The block.
        y: What its first half returns (..., D).
    """
    inner = block.feed_forward
    if not nobody_watches():
        return None
    weights = feed_forward_weights(block._modules.get("feed_forward_norm"), inner)
    y = y.contiguous()
    if weights is None or weights[1] is None or not y.numel() or not can_read((y, *weights)):
        return None
    drops = is_dropping(inner)
    adds_residual = block.residual and not drops
    eps = 0.0 if weights[0] is None else block.feed_forward_norm.eps
    sizes = [y.numel() // y.shape[-1], y.shape[-1], inner.inner_features, int(adds_residual)]
    if torch.is_grad_enabled():
        out = _Pass.apply(sizes, eps, y, *weights)
    else:
        out = _forward(sizes, eps, y, weights)
    if not drops:
        return out
    out = inner.dropout(out)
    return y + out if block.residual else out


def _forward(sizes: list[int], eps: float, y: Tensor, weights: Weights) -> Tensor:
    out = torch.empty_like(y)
    library.call("feed_forward", sizes, (*weights, y, out), sizes[0], [eps])
    return out


class _Pass(torch.autograd.Function):
    """The layers as one node of autograd."""

    @staticmethod
    def forward(
        ctx: Any, sizes: list[int], eps: float, y: Tensor, *weights: Tensor | None
    ) -> Tensor:
        """See ``feed_forward_pass``."""
        ctx.save_for_backward(y, *weights)
        ctx.sizes, ctx.eps = sizes, eps
        return _forward(sizes, eps, y, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input and the weights."""
        refuse_double_backward(ALTERNATIVE)
        y, *weights = ctx.saved_tensors
        _, D, F, _ = ctx.sizes
        widths = [D, 2 * F * D, D * F]
        sums = y.new_zeros(library.num_parts(ctx.sizes[0]), sum(widths))
        grad_y = torch.empty_like(y)
        tensors = (*weights, y, grad.contiguous(), grad_y, sums)
        sizes = [*ctx.sizes, sums.shape[1]]
        library.call("feed_forward_backward", sizes, tensors, sizes[0], [ctx.eps])
        total = sums[0] if len(sums) == 1 else sums.sum(0)
        found = (
            None if weight is None else part.view(weight.shape)
            for weight, part in zip(weights, total.split(widths), strict=True)
        )
        return None, None, grad_y, *found
