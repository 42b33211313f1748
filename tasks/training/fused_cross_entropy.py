"""Cross-entropy of a linear head over the whole catalogue, without keeping the logits.

The logits of T positions and V items are made, turned into the softmax and multiplied into the
gradients one chunk of positions at a time, so memory does not grow with T x V, and nothing is
computed twice: three matrix products per step, the least possible. On a GPU kernels of our own keep
even the chunks on the chip. Idea: Wijmans et al. 2024 and Hsu et al. 2024 (fused linear
cross-entropy).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from xlstm_model.kernels import cross_entropy as kernels

CPU_CHUNK_ELEMENTS = 2**20
"""Logits per chunk on a CPU: 4 MiB, about a second-level cache."""
GPU_CHUNK_ELEMENTS = 2**26
"""Logits per chunk on a GPU: 256 MiB, enough to fill the device."""


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    additions: tuple[Tensor, Tensor] | None = None,
    chunk_elements: int | None = None,
) -> Tensor:
    """Mean cross-entropy of the scores ``hidden @ weight.T + bias`` over all real items.

    Equals `tasks.training.losses.cross_entropy` of those scores.

    Args:
        hidden: (T, D) floating, T at least 1.
        weight: (V, D); row 0, padding, takes no part and gets no gradient.
        bias: (V,) or None; entry 0 takes no part.
        targets: (T,) int64 in 1..V-1.
        label_smoothing: share of the target probability spread evenly over the real items.
        additions: items (T, K) int64 and what is added to their scores (T, K); each real item at
            most once per position, 0 where there is none.
        chunk_elements: logits held at a time; by default what suits the device.

    Returns:
        Scalar float32 (float64 for float64 input), in nats.

    >>> hidden = torch.zeros(3, 2)
    >>> linear_cross_entropy(hidden, torch.zeros(5, 2), None, torch.tensor([1, 2, 4])).exp().item()
    4.0
    """
    if chunk_elements is None:
        chunk_elements = GPU_CHUNK_ELEMENTS if hidden.is_cuda else CPU_CHUNK_ELEMENTS
    if additions is None and hidden.is_cuda:
        states, head = (x.to(_compute_dtype(hidden)) for x in (hidden, weight))
        if kernels.fits(states, head, bias):
            lost, _ = kernels.negative_log_likelihood(states, head, bias, targets)
            return _smoothed(lost.mean(), hidden, weight, bias, targets, label_smoothing, None)
    items, values = (None, None) if additions is None else additions
    loss = _LinearCrossEntropy.apply(hidden, weight, bias, targets, items, values, chunk_elements)
    return _smoothed(loss, hidden, weight, bias, targets, label_smoothing, additions)


def seen_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    item_ids: Tensor,
    positions: Tensor,
    added: Tensor | None,
) -> Tensor | None:
    """Mean cross-entropy by the kernels alone, histories' items biased; None where they can't.

    Unlike in `linear_cross_entropy` a target may be 0: that position costs and counts nothing.

    Args:
        hidden: (T, D) floating.
        weight: (V, D).
        targets: (T,) int64 in 0..V-1, at least one above 0.
        item_ids: (B, S) int64, the histories; nothing drops out of one before its end.
        positions: (T,) int64, where in the flattened ``item_ids`` each hidden state stands.
        added: (2,), what is added to the score of the newest item and of earlier ones; None for
            nothing.
    """
    states, head = (x.to(_compute_dtype(hidden)) for x in (hidden, weight))
    is_short = item_ids.shape[1] < kernels.NEVER
    if torch.compiler.is_compiling() or not is_short or not kernels.fits(states, head, None):
        return None
    seen = None
    if added is not None:
        seen = kernels.seen_items(item_ids, positions, weight.shape[0], added)
    lost, _ = kernels.negative_log_likelihood(states, head, None, targets, seen=seen)
    return lost.sum() / (targets > 0).sum()


def _smoothed(
    loss: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    label_smoothing: float,
    additions: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """The loss with some of the target probability spread over the real items."""
    if label_smoothing == 0.0:
        return loss
    # Smoothing adds a term linear in the logits: eps * (target's score - mean score), whose two
    # parts need no (T, V) matrix.
    target_score = (hidden * weight[targets]).sum(dim=1)
    mean_score = hidden @ weight[1:].mean(dim=0)
    if bias is not None:
        target_score = target_score + bias[targets]
        mean_score = mean_score + bias[1:].mean()
    if additions is not None:
        items, values = additions
        target_score = target_score + (values * (items == targets[:, None])).sum(dim=1)
        mean_score = mean_score + values.sum(dim=1) / (weight.shape[0] - 1)
    return loss + label_smoothing * (target_score - mean_score).mean()


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss: the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        items: Tensor | None,
        values: Tensor | None,
        chunk_elements: int,
    ) -> Tensor:
        accumulate = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        compute = _compute_dtype(hidden)
        rows = max(1, chunk_elements // weight.shape[0])
        head = weight.to(compute)
        # -inf takes padding out of the softmax: probability and gradient are exactly 0.
        offset = hidden.new_zeros(weight.shape[0], dtype=accumulate) if bias is None else bias
        offset = offset.to(accumulate, copy=True)
        offset[0] = -torch.inf
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(offset) if ctx.needs_input_grad[2] else None
        grad_values = None
        if ctx.needs_input_grad[5]:
            grad_values = torch.empty_like(values, dtype=accumulate)
        loss = offset.new_zeros(())
        for start in range(0, hidden.shape[0], rows):
            states, wanted = hidden[start : start + rows], targets[start : start + rows]
            logits = _logits(states.to(compute), head, offset)
            if items is not None:
                # Padding's score is -inf, so what the empty places add to it changes nothing.
                chosen = items[start : start + rows]
                logits.scatter_add_(1, chosen, values[start : start + rows].to(accumulate))
            score = logits.gather(1, wanted[:, None])
            highest = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(highest).exp_()
            total = exponentials.sum(dim=1, keepdim=True)
            loss += (total.log() + highest - score).sum()
            # The probabilities are exponentials / total; dividing the thin factors by the total
            # instead, and taking the targets off there, saves two passes over (T, V).
            wide = exponentials.to(compute)
            share = 1.0 / total
            if grad_hidden is not None:
                grad_hidden[start : start + rows] = (wide @ head) * share - weight[wanted]
            if grad_weight is not None:
                _add_product(grad_weight, wide.T, (states * share).to(compute))
            if grad_bias is not None:
                grad_bias += exponentials.T @ share[:, 0]
            if grad_values is not None:
                is_target = (chosen == wanted[:, None]).to(accumulate)
                grad_values[start : start + rows] = (
                    exponentials.gather(1, chosen) * share - is_target
                )
        if grad_weight is not None:
            grad_weight.index_add_(0, targets, hidden.to(weight.dtype), alpha=-1)
        if grad_bias is not None:
            grad_bias.index_add_(0, targets, torch.ones_like(targets, dtype=accumulate), alpha=-1)
        scale = 1.0 / hidden.shape[0]
        gradients = (grad_hidden, grad_weight, grad_bias, grad_values)
        ctx.save_for_backward(*(None if g is None else g.mul_(scale) for g in gradients))
        return loss * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, values = (
            None if g is None else g * grad_loss for g in ctx.saved_tensors
        )
        return hidden, weight, bias, None, None, values, None


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype of matrix products: autocast's where it is on."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return hidden.dtype


def _logits(states: Tensor, head: Tensor, offset: Tensor) -> Tensor:
    """Scores in the dtype of the offset, in a buffer that may be overwritten."""
    if states.dtype == offset.dtype:
        return torch.addmm(offset, states, head.T)
    return (states @ head.T).to(offset.dtype).add_(offset)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds ``left @ right`` to a total of the same or a wider dtype."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
