"""The first half of the sLSTM block over sequences in one compiled pass forward and one backward.

It is all but the feed-forward layer: norm, convolution, gates, cell, norm of the heads, residual.
Of what stands between its input and output, only the gates' pre-activations and the cell's states
are kept; the rest is computed again in the backward pass, in the processor's caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xlstm_model.blocks.checks import zero_padding
from xlstm_model.blocks.plain import Weights, can_read, is_dropping, nobody_watches, slstm_weights
from xlstm_model.native import library
from xlstm_model.tracing import refuse_double_backward

if TYPE_CHECKING:
    from xlstm_model.blocks.slstm import SLSTMBlock, SLSTMBlockState

ALTERNATIVE = "xlstm_model.native.library.disabled()"
"""What runs the same in operations that can be differentiated twice."""

NUM_WEIGHTS = 8
"""Of the weights that ``slstm_weights`` lists, those before the feed-forward layer's."""

RESIDUAL = 7
"""Place among the sizes of whether the kernel adds the residual."""


def slstm_block_pass(
    block: SLSTMBlock, x: Tensor, mask: Tensor | None, state: SLSTMBlockState | None
) -> tuple[Tensor, ...] | None:
    """Output of the first half, final conv, h, c, n, m; None where the kernel can't stand for it.

    Args:
        block: The block.
        x: (B, S, D), anything at padding.
        mask: Bool (B, S), True = real.
        state: Before the sequence; a gradient to it is left to the layers.
    """
    weights = _weights(block) if nobody_watches() else None
    if weights is None or (state is None and block.recurrence.learned_initial_state):
        return None
    start = (None,) * 5
    if state is not None:
        if torch.is_grad_enabled() and any(t.requires_grad for t in (state.conv, *state.cell)):
            return None
        start = tuple(t.contiguous() for t in (state.conv, *state.cell))
    x, mask = x.contiguous(), None if mask is None else mask.contiguous()
    if not x.numel() or not can_read((x, *start, *weights)):
        return None
    is_plain_branch = not is_dropping(block)
    sizes, eps = _sizes(block, x, weights, block.residual and is_plain_branch)
    if state is not None and any(
        t.shape != shape for t, shape in zip(start, _state_shapes(sizes), strict=True)
    ):
        return None
    if torch.is_grad_enabled():
        y, *end = _Pass.apply(block, (sizes, eps), mask, start, x, *weights)
    else:
        y, *end = _forward((sizes, eps), mask, start, x, weights)[0]
    return (y if is_plain_branch else _with_branch(block, x, mask, y)), *end


def _weights(block: SLSTMBlock) -> Weights | None:
    """Weights before the feed-forward layer, None where another function could be in the way."""
    if any(name in block.__dict__ for name in ("_gates", "_split")):
        return None
    weights = slstm_weights(block, feed_forward=False)
    return None if weights is None else weights[:NUM_WEIGHTS]


def _with_branch(block: SLSTMBlock, x: Tensor, mask: Tensor | None, y: Tensor) -> Tensor:
    """What follows the branch where dropout stands between it and the residual."""
    y = block.dropout(y)
    return y + zero_padding(x, mask) if block.residual else y


def _sizes(
    block: SLSTMBlock, x: Tensor, weights: Weights, adds_residual: bool
) -> tuple[list[int], list[float]]:
    """The fields of ``SlstmBlockShape`` in ``native/source/types.h``."""
    taps = 0 if weights[1] is None else weights[1].shape[-1]
    cell, merge = block.recurrence, block.head_merge
    sizes = [*x.shape, block.num_heads, taps, len(block.convolved), merge.groups]
    sizes += [int(adds_residual), int(cell.gate == "sigmoid")]
    return sizes, [0.0 if weights[0] is None else block.norm.eps, merge.eps]


def _state_shapes(sizes: list[int]) -> tuple[tuple[int, ...], ...]:
    """Of conv, h, c, n and m."""
    B, _, D, NH, taps, *_ = sizes
    return (B, max(taps - 1, 0), D), *(((B, NH, D // NH),) * 4)


def _forward(
    shape: tuple[list[int], list[float]],
    mask: Tensor | None,
    start: tuple[Tensor | None, ...],
    x: Tensor,
    weights: Weights,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Output with the final state, and what the kernel leaves for the backward pass."""
    sizes, eps = shape
    B, S, D, NH, *_ = sizes
    DH = D // NH
    saved = x.new_empty(S, NH, B, 4, DH), *(x.new_empty(S + 1, NH, B, DH) for _ in range(4))
    results = (torch.empty_like(x), *(x.new_empty(s) for s in _state_shapes(sizes)))
    tensors = (*weights, x, mask, *start, *saved, *results)
    library.call("slstm_block_forward", sizes, tensors, B, eps)
    return results, saved


class _Pass(torch.autograd.Function):
    """The half as one node of autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        block: nn.Module,
        shape: tuple[list[int], list[float]],
        mask: Tensor | None,
        start: tuple[Tensor | None, ...],
        x: Tensor,
        *weights: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """See ``slstm_block_pass``."""
        results, saved = _forward(shape, mask, start, x, weights)
        ctx.save_for_backward(mask, *start, x, *weights, *saved)
        ctx.block, ctx.shape = block, shape
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x and the weights."""
        refuse_double_backward(ALTERNATIVE)
        mask, *rest = ctx.saved_tensors
        start, x, weights, saved = rest[:5], rest[5], rest[6 : 6 + NUM_WEIGHTS], rest[14:]
        if any(grad is not None for grad in grads[1:]):
            found = _through_layers(ctx, mask, start, x, weights, grads)
        else:
            found = _backward(ctx.shape, mask, start, x, weights, saved, grads[0])
        return None, None, None, None, *found


def _backward(
    shape: tuple[list[int], list[float]],
    mask: Tensor | None,
    start: list[Tensor | None],
    x: Tensor,
    weights: list[Tensor | None],
    saved: list[Tensor],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    sizes, eps = shape
    # In the order the kernel leaves them; there is room for the norms and a bias even without one.
    widths = [0 if w is None else w.numel() for w in weights]
    widths[0] = widths[2] = widths[7] = x.shape[-1]
    sums = x.new_zeros(library.num_parts(len(x)), sum(widths))
    grad_x = torch.empty_like(x)
    tensors = (*weights, x, mask, *start, *saved, grad.contiguous(), grad_x, sums)
    library.call("slstm_block_backward", [*sizes, sums.shape[1]], tensors, len(x), eps)
    total = sums[0] if len(sums) == 1 else sums.sum(0)
    found = (
        None if weight is None else part.view(weight.shape)
        for weight, part in zip(weights, total.split(widths), strict=True)
    )
    return grad_x, *found


def _through_layers(
    ctx: Any,
    mask: Tensor | None,
    start: list[Tensor | None],
    x: Tensor,
    weights: list[Tensor | None],
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """The same where gradients reach the final state: the half once more, layer by layer."""
    from xlstm_model.blocks.slstm import SLSTMBlockState
    from xlstm_model.cells import SLSTMState

    leaf = x.detach().requires_grad_()
    state = None if start[0] is None else SLSTMBlockState(SLSTMState(*start[1:]), start[0])
    given = [w for w in weights if w is not None]
    with torch.enable_grad():
        clean = zero_padding(leaf, mask)
        h, conv, cell = ctx.block.cell_outputs(clean, mask, state)
        y = ctx.block.head_merge(h)
        y = zero_padding(clean + y if ctx.shape[0][RESIDUAL] else y, mask)
        results = [
            (result, grad)
            for result, grad in zip((y, conv, *cell), grads, strict=True)
            if grad is not None and result.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in results], [leaf, *given], [g for _, g in results], allow_unused=True
            )
        )
    return next(found), *(None if w is None else next(found) for w in weights)
