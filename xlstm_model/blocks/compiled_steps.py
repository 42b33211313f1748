"""One position of a whole block in one compiled call, where no gradient is asked for.

PyTorch's share of a step of few samples is the calls around its operations rather than what they
compute, so that a block is one call here: norm, projections, convolution, cell, what follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xlstm_model.blocks.plain import (
    can_read,
    is_dropping,
    mlstm_weights,
    nobody_watches,
    slstm_weights,
)
from xlstm_model.native import library

if TYPE_CHECKING:
    from xlstm_model.blocks.mlstm import MLSTMBlock, MLSTMBlockState
    from xlstm_model.blocks.slstm import SLSTMBlock, SLSTMBlockState

LEAST_SPLIT = 32
"""Fewest samples worth splitting over threads."""


def mlstm_block_step(
    block: MLSTMBlock, x: Tensor, state: MLSTMBlockState
) -> tuple[Tensor, ...] | None:
    """Output, and next conv, c, n, m; None where the kernel can't stand for the block's layers.

    Args:
        block: The block.
        x: (B, D).
        state: Before the position; not changed.
    """
    weights = None if _must_stay_visible(block, x) else mlstm_weights(block)
    if weights is None:
        return None
    before = (state.conv, *state.cell)
    D, C, heads, width = block.embedding_dim, block.inner_dim, block.num_heads, block.head_dim
    taps = 0 if weights[2] is None else weights[2].shape[-1]
    rows = x.shape[0]
    shapes = (
        (rows, max(taps - 1, 0), C),
        (rows, heads, width, width),
        (rows, heads, width),
        (rows, heads),
    )
    if x.shape[1] != D or any(t.shape != s for t, s in zip(before, shapes, strict=True)):
        return None
    cell, merge = block.recurrence, block.head_merge
    eps = (0.0 if weights[0] is None else block.norm.eps, merge.eps, cell.eps)
    sizes = (rows, D, C, heads, taps, merge.groups, block.residual, cell.gate == "sigmoid", 0, 0)
    return _run("mlstm_block_step", weights, x, before, sizes, eps)


def slstm_block_step(
    block: SLSTMBlock, x: Tensor, state: SLSTMBlockState
) -> tuple[Tensor, ...] | None:
    """Output, and next conv, h, c, n, m; None where the kernel can't stand for the block's layers.

    Args:
        block: The block.
        x: (B, D).
        state: Before the position; not changed.
    """
    weights = None if _must_stay_visible(block, x) else slstm_weights(block)
    if weights is None:
        return None
    before = (state.conv, *state.cell)
    D, heads, width = block.embedding_dim, block.num_heads, block.head_dim
    taps = 0 if weights[1] is None else weights[1].shape[-1]
    rows = x.shape[0]
    shapes = ((rows, max(taps - 1, 0), D), *(((rows, heads, width),) * 4))
    if x.shape[1] != D or any(t.shape != s for t, s in zip(before, shapes, strict=True)):
        return None
    cell, merge, inner = block.recurrence, block.head_merge, block.feed_forward
    sizes = (
        *(rows, D, D, heads, taps, merge.groups, block.residual, cell.gate == "sigmoid"),
        *(len(block.convolved), 0 if inner is None else inner.inner_features),
    )
    eps = (0.0 if weights[0] is None else block.norm.eps, merge.eps, 0.0)
    return _run("slstm_block_step", weights, x, before, sizes, eps)


def _must_stay_visible(block: nn.Module, x: Tensor) -> bool:
    return torch.is_grad_enabled() or x.dim() != 2 or not nobody_watches() or is_dropping(block)


def _run(
    name: str,
    weights: tuple[Tensor | None, ...],
    x: Tensor,
    before: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    eps: tuple[float, ...],
) -> tuple[Tensor, ...] | None:
    x, before = x.contiguous(), tuple(t.contiguous() for t in before)
    if not can_read((*weights, x, *before)):
        return None
    results = tuple(map(torch.empty_like, (x, *before)))
    library.call(name, sizes, (*weights, x, *before, *results), len(x), eps, LEAST_SPLIT)
    return results
