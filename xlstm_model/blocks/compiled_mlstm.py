"""The mLSTM block over whole sequences in one compiled pass forward and one backward.

Of what stands between the block's input and output, only the up-projection, the gates, the cell's
outputs and its memory at the borders of the chunks are kept; the rest is computed again in the
backward pass, sample by sample, in the processor's caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xlstm_model.blocks.checks import zero_padding
from xlstm_model.blocks.plain import Weights, can_read, is_dropping, mlstm_weights, nobody_watches
from xlstm_model.cells import MLSTMState
from xlstm_model.layers import gated_merge
from xlstm_model.native import library
from xlstm_model.tracing import refuse_double_backward

if TYPE_CHECKING:
    from xlstm_model.blocks.mlstm import MLSTMBlock, MLSTMBlockState

ALTERNATIVE = "xlstm_model.native.library.disabled()"
"""What runs the same in operations that can be differentiated twice."""

RESIDUAL = 9
"""Place among the sizes of whether the kernel adds the residual."""


def mlstm_block_pass(
    block: MLSTMBlock, x: Tensor, mask: Tensor | None, state: MLSTMBlockState | None
) -> tuple[Tensor, ...] | None:
    """Output, and final conv, c, n, m; None where the kernel can't stand for the block's layers.

    Args:
        block: The block.
        x: (B, S, D), anything at padding.
        mask: Bool (B, S), True = real.
        state: Before the sequence; a gradient to it is left to the layers.
    """
    weights = mlstm_weights(block) if nobody_watches() else None
    cell = block.recurrence
    if weights is None or cell.eps or (state is None and cell.learned_initial_state):
        return None
    start = (None,) * 4
    if state is not None:
        if torch.is_grad_enabled() and any(t.requires_grad for t in (state.conv, *state.cell)):
            return None
        start = tuple(t.contiguous() for t in (state.conv, *state.cell))
    elif block.conv is not None:
        start = (block.conv.initial_state(len(x), dtype=x.dtype), None, None, None)
    x, mask = x.contiguous(), None if mask is None else mask.contiguous()
    if len(x) == 0 or not can_read((x, *start, *weights)):
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


def _with_branch(block: MLSTMBlock, x: Tensor, mask: Tensor | None, y: Tensor) -> Tensor:
    """What follows the branch where dropout stands between it and the residual."""
    y = block.dropout(y)
    return y + zero_padding(x, mask) if block.residual else y


def _sizes(
    block: MLSTMBlock, x: Tensor, weights: Weights, adds_residual: bool
) -> tuple[list[int], list[float]]:
    """The fields of ``MlstmBlockShape`` in ``native/source/types.h``."""
    B, S, D = x.shape
    cell, merge = block.recurrence, block.head_merge
    taps = 0 if weights[2] is None else weights[2].shape[-1]
    length = min(S, cell.chunk_size if cell.form == "chunkwise" else S)
    sizes = [B, S, D, block.inner_dim, block.num_heads, taps, length, -(-S // length)]
    sizes += [merge.groups, int(adds_residual), int(cell.gate == "sigmoid")]
    return sizes, [0.0 if weights[0] is None else block.norm.eps, merge.eps, 0.0]


def _state_shapes(sizes: list[int]) -> tuple[tuple[int, ...], ...]:
    """Of conv, c, n and m."""
    B, _, _, C, NH, taps, *_ = sizes
    DH = C // NH
    return (B, max(taps - 1, 0), C), (B, NH, DH, DH), (B, NH, DH), (B, NH)


def _forward(
    shape: tuple[list[int], list[float]],
    mask: Tensor | None,
    start: tuple[Tensor | None, ...],
    x: Tensor,
    weights: Weights,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Output with the final state, and what the kernel leaves for the backward pass."""
    sizes, eps = shape
    B, S, _, C, NH, _, _, chunks, *_ = sizes
    DH = C // NH
    saved = (
        *(x.new_empty(B, S, 2 * C), x.new_empty(B, S, C)),
        *(x.new_empty(B, S, NH), x.new_empty(B, S, 2 * NH)),
        *(x.new_empty(B, chunks - 1, NH, DH, DH), x.new_empty(B, chunks - 1, NH, DH)),
        x.new_empty(B, chunks, NH, dtype=torch.float64),
    )
    results = (torch.empty_like(x), *(x.new_empty(s) for s in _state_shapes(sizes)))
    tensors = (*weights, x, mask, *start, *saved, *results)
    library.call("mlstm_block_forward", sizes, tensors, B, eps)
    return results, saved


class _Pass(torch.autograd.Function):
    """The block as one node of autograd."""

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
        """See ``mlstm_block_pass``."""
        results, saved = _forward(shape, mask, start, x, weights)
        ctx.save_for_backward(mask, *start, x, *weights, *saved)
        ctx.block, ctx.shape, ctx.num_weights = block, shape, len(weights)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x and the weights."""
        refuse_double_backward(ALTERNATIVE)
        mask, *rest = ctx.saved_tensors
        start, x, weights = rest[:4], rest[4], rest[5 : 5 + ctx.num_weights]
        if any(grad is not None for grad in grads[1:]):
            found = _through_layers(ctx, mask, start, x, weights, grads)
        else:
            found = _backward(
                ctx.shape, mask, start, x, weights, rest[5 + len(weights) :], grads[0]
            )
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
    B, _, _, C, *_ = sizes
    # In the order the kernel leaves them; there is room for the norms and a bias even without one.
    widths = [0 if w is None else w.numel() for w in weights]
    widths[0], widths[3], widths[11] = x.shape[-1], C, C
    sums = x.new_zeros(library.num_parts(B), sum(widths))
    grad_x = torch.empty_like(x)
    tensors = (*weights, x, mask, *start, *saved, grad.contiguous(), grad_x, sums)
    library.call("mlstm_block_backward", [*sizes, sums.shape[1]], tensors, B, eps)
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
    """The same where gradients reach the final state: the block once more, layer by layer."""
    from xlstm_model.blocks.mlstm import MLSTMBlockState

    leaf = x.detach().requires_grad_()
    state = None if start[1] is None else MLSTMBlockState(MLSTMState(*start[1:]), start[0])
    given = [w for w in weights if w is not None]
    with torch.enable_grad():
        clean = zero_padding(leaf, mask)
        block = ctx.block
        inputs, mixed, z, conv = block.cell_inputs(clean, mask, state)
        cell = None if state is None else state.cell
        h, cell = block.recurrence(*inputs, mask=mask, state=cell)
        merged = gated_merge(h.transpose(1, 2), block.head_merge.norm, block.skip, mixed, z)
        y = block.proj_down(merged)
        y = zero_padding(clean + y if ctx.shape[0][RESIDUAL] else y, mask)
        end = (y, conv, *cell)
        results = [
            (r, g) for r, g in zip(end, grads, strict=True) if g is not None and r.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in results], [leaf, *given], [g for _, g in results], allow_unused=True
            )
        )
    return next(found), *(None if w is None else next(found) for w in weights)
