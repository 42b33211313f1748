"""The chunkwise mLSTM on GPUs: which kernels run how, and its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xlstm_model.cells.mlstm_passes import Arguments, path_gradient
from xlstm_model.kernels import library
from xlstm_model.kernels.mlstm_launches import (
    backward_launches,
    forward_launches,
    kind_of,
    plan_of,
)
from xlstm_model.kernels.mlstm_plan import (
    WIDEST_HEAD,
    Inputs,
    Plan,
    by_position,
    gather_inputs,
    make_plan,
    position_strides,
)
from xlstm_model.tracing import refuse_double_backward

__all__ = ["MLSTM", "Plan", "backward", "fits", "forward", "gradients", "make_plan", "mlstm"]


def fits(q: Tensor, k: Tensor, v: Tensor, gates: tuple[Tensor, Tensor], eps: float) -> bool:
    """Whether the kernels can run this; the gates may have another dtype than q, k and v."""
    is_known = eps == 0.0 and q.dtype == k.dtype == v.dtype and q.numel() > 0
    if not is_known or not library.fits(q, k, v, *gates):
        return False
    return library.head_fits("mLSTM", max(q.shape[-1], v.shape[-1]), WIDEST_HEAD, q.dtype)


def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    state: tuple[Tensor, Tensor, Tensor] | None,
    mask: Tensor | None,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs (B, NH, S, DHV) and the final c, n and m of ``cells.mlstm_chunkwise``."""
    start = (None, None, None) if state is None else tuple(state)
    inputs = (q, k, v, igate_preact, fgate_preact, *start, mask)
    if torch.compiler.is_compiling():
        from xlstm_model.kernels.operators import mlstm_op

        return mlstm_op(*inputs)[:4]
    return MLSTM.apply(*inputs, plan)


def forward(inputs: Inputs, plan: Plan | None) -> tuple[Tensor, ...]:
    """h (B, NH, S, DHV), final c, n, m, and what the gradient needs: denominators, c and n at the
    chunks' borders, what the gates make of positions and of chunks."""
    q, k, v, igate, fgate, mask, c, n, m = inputs
    B, NH, _, DK = q.shape
    way = forward_launches(kind_of(inputs, plan))
    sums = torch.empty(way.sums, dtype=torch.float32, device=q.device)
    positions, chunks = sums.new_empty(way.positions), sums.new_empty(way.chunks)
    end_c, end_n = sums.new_empty(B, NH, DK, v.shape[-1]), sums.new_empty(B, NH, DK)
    end_m, border_n = sums.new_empty(B, NH), sums.new_empty(way.border_n)
    border_c = q.new_empty(way.border_c)
    h = v.new_empty_strided(v.shape, position_strides(v.shape))
    way.follow_gates(igate, fgate, mask, m, positions, chunks, end_m)
    if way.remember is not None:
        way.remember(k, v, mask, positions, chunks, c, n, border_c, border_n, end_c, end_n)
    way.read(q, k, v, mask, positions, chunks, c, n, border_c, border_n, end_c, end_n, h, sums)
    return h, end_c, end_n, end_m, sums, border_c, border_n, positions, chunks


def backward(
    inputs: Inputs,
    plan: Plan | None,
    kept: tuple[Tensor, ...],
    grad_h: Tensor,
    end: tuple[Tensor, Tensor] | None,
    onward: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v (B, NH, S, D), the gates (B, NH, S) and the first c and n (or None)."""
    h, sums, border_c, border_n, positions, chunks = kept
    q, k, v, _, fgate, mask, c, n, _ = inputs
    way = backward_launches(kind_of(inputs, plan), end is not None)
    if border_c.numel() == 0 and not way.is_alone:
        shape = (sums.shape[0], chunks.shape[-1], q.shape[-1])
        border_c, border_n = q.new_zeros(*shape, v.shape[-1]), sums.new_zeros(shape)
    grads = [x.new_empty_strided(x.shape, position_strides(x.shape)) for x in inputs[:5]]
    end_c, end_n = (None, None) if end is None else end
    start = (None, None) if c is None else (torch.empty_like(c), torch.empty_like(n))
    grad_sums = grad_c = grad_n = decay = None
    if way.recall_sums is not None:
        grad_sums, decay = torch.empty_like(sums), torch.empty_like(sums)
        grad_c, grad_n = torch.empty_like(border_c), torch.empty_like(border_n)
        way.recall_sums(h, grad_h, mask, sums, positions, grad_sums)
        way.remember_backward(
            q, mask, positions, chunks, sums, grad_h, grad_sums, end_c, end_n, grad_c, grad_n,
            *start,
        )  # fmt: skip
    way.read_backward(
        q, k, v, fgate, mask, positions, chunks, h, sums, grad_h, grad_sums, border_c, border_n,
        grad_c, grad_n, end_c, end_n, *start, *grads, decay, onward,
    )  # fmt: skip
    if way.decay_backward is not None:
        way.decay_backward(fgate, mask, decay, onward, grads[4])
    return *grads, *start


class MLSTM(torch.autograd.Function):
    """``mlstm`` with its gradient, recomputed from the inputs and the states between chunks."""

    @staticmethod
    def forward(ctx, q, k, v, igate, fgate, c, n, m, mask, plan):  # type: ignore[no-untyped-def]
        inputs = gather_inputs(q, k, v, igate, fgate, c, n, m, mask)
        h, end_c, end_n, end_m, *kept = forward(inputs, plan)
        ctx.save_for_backward(*inputs, h, *kept, end_c, end_n)
        ctx.plan = plan
        ctx.dtypes = None if c is None else (c.dtype, n.dtype, m.dtype)
        ctx.set_materialize_grads(False)
        return h, end_c, end_n, end_m

    @staticmethod
    def backward(ctx, grad_h, grad_c, grad_n, grad_m):  # type: ignore[no-untyped-def]
        refuse_double_backward("xlstm_model.cells.mlstm_reference")
        saved = ctx.saved_tensors
        # What keeps saved tensors elsewhere meanwhile may bring them back in another layout.
        inputs = Inputs(*map(by_position, saved[:3]), *saved[3:9])
        kept, last = saved[9:15], saved[15:]
        grads = gradients(inputs, ctx.plan, kept, last, grad_h, (grad_c, grad_n, grad_m))
        if ctx.dtypes is None:
            return *grads, None, None
        start = (x.to(dtype) for x, dtype in zip(grads[5:], ctx.dtypes, strict=True))
        return *grads[:5], *start, None, None


def gradients(
    inputs: Inputs,
    plan: Plan | None,
    kept: tuple[Tensor, ...],
    last: tuple[Tensor, Tensor],
    grad_h: Tensor | None,
    grad_state: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Gradients of all inputs, in the layouts the caller gave them.

    Args:
        inputs: As given to ``forward``.
        plan: As given to ``forward``.
        kept: h and what else ``forward`` kept.
        last: Final c and n.
        grad_h: Gradient of the outputs (B, NH, S, DHV), None for none.
        grad_state: Gradients of the final c, n and m, None for none.
    """
    h, *rest = kept
    kept = (by_position(h), *rest)
    grad_h = torch.zeros_like(kept[0]) if grad_h is None else by_position(grad_h)
    end = onward = grad_last = None
    if any(x is not None for x in grad_state):
        end = tuple(
            torch.zeros_like(x) if grad is None else grad.float().contiguous()
            for x, grad in zip(last, grad_state, strict=False)
        )
        onward = _inner(end, last)
        grad_last = -onward if grad_state[2] is None else grad_state[2].double() - onward
        onward = onward.flatten()
    *dense, grad_i, grad_f, start_c, start_n = backward(inputs, plan, kept, grad_h, end, onward)
    grad_m = None
    if start_c is not None:
        grad_m = _inner((start_c, start_n), (inputs.c, inputs.n))
    if grad_last is not None:
        length = plan_of(kind_of(inputs, plan)).length
        grad_i, grad_f, through = _through_stabilizer(inputs, length, grad_i, grad_f, grad_last)
        grad_m = None if grad_m is None else grad_m + through
    return *dense, grad_i, grad_f, start_c, start_n, grad_m


def _inner(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of the products of two memories (B, NH), in float64."""
    matrix = (a[0] * b[0]).sum((-1, -2), dtype=torch.float64)
    return matrix + (a[1] * b[1]).sum(-1, dtype=torch.float64)


def _through_stabilizer(
    inputs: Inputs, length: int, grad_i: Tensor, grad_f: Tensor, grad_last: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add what the final stabiliser, which the final memory was divided by, passes to the gates."""
    from xlstm_model.cells.mlstm import log_gates

    mask = None if inputs.mask is None else inputs.mask.bool()
    # Inside, as the cell itself imports this module.
    log_i, log_f = log_gates(inputs.igate, inputs.fgate, mask)
    m = inputs.m
    if m is None:
        m = log_i.new_full(log_i.shape[:2], -math.inf)
    arguments = Arguments(
        *inputs[:3], log_i, log_f, None, None, m, mask, 0.0, -(-log_i.shape[-1] // length)
    )
    to_i, to_f, to_m = path_gradient(arguments, None, grad_last.flatten())
    if mask is not None:
        to_i = torch.where(mask.unsqueeze(1), to_i, 0.0)
    to_f = to_f * torch.where(log_f < 0, -torch.expm1(log_f), 0.0)
    grad_i = (grad_i.double() + to_i).to(grad_i.dtype)
    return grad_i, (grad_f.double() + to_f).to(grad_f.dtype), to_m
