"""Cross-entropy of a linear head over the whole catalogue on GPUs, and its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.kernels import library
from xlstm_model.tracing import refuse_double_backward

WIDEST = {torch.bfloat16: 256, torch.float32: 128}
"""Columns of the hidden states a program can hold."""


class Plan(NamedTuple):
    """How the kernels cut their work."""

    positions: int
    """Positions per program of the loss."""
    items: int
    """Items per turn of the loss."""
    warps: int
    stages: int
    backward_items: int
    """Items per program of their gradient."""
    backward_positions: int
    """Positions per turn of the items' gradient."""
    backward_warps: int
    backward_stages: int
    programs: int
    """About how many programs the items' gradient is split into."""


def fits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels can run this."""
    return (
        hidden.dtype == weight.dtype
        and hidden.shape[0] > 0
        and hidden.shape[1] <= WIDEST.get(hidden.dtype, 0)
        and library.fits(hidden, weight, bias)
    )


def make_plan(width: int, dtype: torch.dtype) -> Plan:
    """How to cut a call.

    >>> make_plan(128, torch.bfloat16).positions
    64
    """
    if dtype == torch.float32 or width > 128:
        return Plan(64, 32, 4, 2, 64, 32, 4, 2, 528)
    return Plan(64, 64, 4, 3, 64, 64, 4, 3, 1056)


def negative_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor]:
    """What each target costs, and the logarithm of each position's normaliser.

    Args:
        hidden: (T, D).
        weight: (V, D), row 0 is padding, takes no part and gets no gradient.
        bias: (V,) or None.
        targets: int64 (T,), 1..V-1, or 0 for positions that cost nothing.
        plan: How to cut the work.

    Returns:
        (T,) float32 both, in nats, and differentiable.
    """
    if torch.compiler.is_compiling():
        from xlstm_model.kernels.operators import cross_entropy_op

        return cross_entropy_op(hidden, weight, bias, targets)[:2]
    return CrossEntropy.apply(hidden, weight, bias, targets, plan)


def forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    plan: Plan,
    has_grad: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Costs, log normalisers (T,) and mean item vectors (T, D)."""
    from xlstm_model.kernels import cross_entropy_kernels as kernels

    T, D = hidden.shape
    lost = torch.empty(T, dtype=torch.float32, device=hidden.device)
    normalizers = torch.empty_like(lost)
    expected = torch.empty(T if has_grad else 0, D, dtype=hidden.dtype, device=hidden.device)
    kernels.expect[(-(-T // plan.positions),)](
        hidden, weight, bias, targets, lost, normalizers, expected, T, weight.shape[0], D,
        HAS_BIAS=bias is not None, HAS_GRAD=has_grad, BT=plan.positions, BV=plan.items,
        BD=library.power_of_two(D), PRECISION=library.precision(hidden.dtype),
        num_warps=plan.warps, num_stages=plan.stages,
    )  # fmt: skip
    return lost, normalizers, expected


def backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    normalizers: Tensor,
    expected: Tensor,
    grads: tuple[Tensor | None, Tensor | None],
    plan: Plan,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of hidden states, item vectors and bias, the sums in a fixed order."""
    from xlstm_model.kernels import cross_entropy_kernels as kernels

    (T, D), V = hidden.shape, weight.shape[0]
    grad_lost, grad_normalizers = (
        torch.zeros_like(normalizers) if x is None else x.contiguous() for x in grads
    )
    grad_hidden = torch.empty_like(hidden)
    width = library.power_of_two(D)
    kernels.hidden_backward[(-(-T // 32),)](
        expected, weight, targets, grad_lost, grad_normalizers, grad_hidden, T, D, BT=32, BD=width
    )
    tiles = -(-V // plan.backward_items)
    turns = -(-T // plan.backward_positions)
    parts = max(1, min(turns, plan.programs // tiles))
    per_part = -(-turns // parts) * plan.backward_positions
    grad_weight = normalizers.new_empty(parts, V, D)
    grad_bias = None if bias is None else normalizers.new_empty(parts, V)
    kernels.items_backward[(tiles, parts)](
        hidden, weight, bias, targets, normalizers, grad_lost, grad_normalizers, grad_weight,
        grad_bias, T, V, D, per_part, HAS_BIAS=bias is not None, BT=plan.backward_positions,
        BV=plan.backward_items, BD=width, PRECISION=library.precision(hidden.dtype),
        num_warps=plan.backward_warps, num_stages=plan.backward_stages,
    )  # fmt: skip
    grad_weight = grad_weight.sum(0)
    return grad_hidden, grad_weight, None if bias is None else grad_bias.sum(0)


class CrossEntropy(torch.autograd.Function):
    """``negative_log_likelihood`` with its gradient."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, plan):  # type: ignore[no-untyped-def]
        plan = plan or make_plan(hidden.shape[1], hidden.dtype)
        hidden, weight = hidden.detach().contiguous(), weight.detach().contiguous()
        bias = None if bias is None else bias.detach().contiguous()
        needs = any(ctx.needs_input_grad[:3])
        lost, normalizers, expected = forward(hidden, weight, bias, targets, plan, needs)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizers, expected)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return lost, normalizers

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        refuse_double_backward("tasks.training.losses.cross_entropy")
        hidden, weight, bias, *rest = ctx.saved_tensors
        to_hidden, to_weight, to_bias = backward(hidden, weight, bias, *rest, grads, ctx.plan)
        to_bias = None if bias is None else to_bias.to(bias.dtype)
        return to_hidden, to_weight.to(weight.dtype), to_bias, None, None
