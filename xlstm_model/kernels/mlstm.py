"""The chunkwise mLSTM on GPUs: which kernels run how, and its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xlstm_model.cells.mlstm_passes import Arguments, path_gradient
from xlstm_model.kernels import library
from xlstm_model.kernels.mlstm_plan import (
    FIELDS,
    WIDEST_HEAD,
    Inputs,
    Plan,
    gather_inputs,
    make_plan,
)
from xlstm_model.tracing import refuse_double_backward

MOST_CHUNKS = 32
"""Chunks whose gates a program follows at once."""
GATES_PER_WARP = 256
"""Positions whose gates a warp of such a program follows at once."""


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


def forward(inputs: Inputs, plan: Plan) -> tuple[Tensor, ...]:
    """h (B, S, NH, DHV), final c, n, m, and what the gradient needs: denominators, c and n at the
    chunks' borders, what the gates make of positions and of chunks."""
    from xlstm_model.kernels import mlstm_kernels as kernels

    q, v = inputs.q, inputs.v
    (B, S, NH, DK), DV = q.shape, v.shape[-1]
    N, rows = -(-S // plan.length), B * NH
    alone = N == 1 and inputs.c is None and plan.carry
    positions, chunks, end_m = _follow_gates(inputs, plan)
    h = torch.empty_like(v)
    sums = positions.new_empty(rows, S)
    end_c, end_n = sums.new_empty(B, NH, DK, DV), sums.new_empty(B, NH, DK)
    stored = 0 if alone else N
    border_c, border_n = q.new_empty(rows, stored, DK, DV), sums.new_empty(rows, stored, DK)
    gates = (inputs.mask, positions, chunks)
    states = (inputs.c, inputs.n, border_c, border_n, end_c, end_n)
    sizes = (S, N, NH, DK, DV)
    options = {
        "HAS_MASK": inputs.mask is not None,
        "HAS_STATE": inputs.c is not None,
        "L": plan.length,
        "PRECISION": library.precision(q.dtype),
    }
    bk, bv = library.power_of_two(DK), library.power_of_two(DV)
    if not plan.carry:
        tk, tv = (min(*pair) for pair in zip((bk, bv), plan.state_tile, strict=True))
        kernels.remember[(rows, -(-DK // tk), -(-DV // tv))](
            inputs.k, v, *gates, *states, *sizes, BK=tk, BV=tv, num_warps=plan.state_warps,
            num_stages=plan.state_stages, **options,
        )  # fmt: skip
    grid = (rows, 1, 1) if plan.carry else (rows, N, -(-DV // plan.tile))
    kernels.read[grid](
        q, inputs.k, v, *gates, *states, h, sums, *sizes, CARRY=plan.carry, ALONE=alone, BK=bk,
        BV=plan.tile, num_warps=plan.warps, num_stages=plan.stages, **options,
    )  # fmt: skip
    return h, end_c, end_n, end_m, sums, border_c, border_n, positions, chunks


def _follow_gates(inputs: Inputs, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """What the gates make of positions and of chunks (see ``mlstm_gate_kernels``), and final m."""
    from xlstm_model.kernels import mlstm_gate_kernels as kernels

    B, S, NH, DK = inputs.q.shape
    N = -(-S // plan.length)
    fields = FIELDS[inputs.q.dtype]
    wide = {"dtype": torch.float32, "device": inputs.q.device}
    positions = torch.empty(B * NH, fields, N * plan.length, **wide)
    chunks, end_m = torch.empty(B * NH, 2, N, **wide), torch.empty(B, NH, **wide)
    turn = min(MOST_CHUNKS, 1 << (N - 1).bit_length())
    kernels.follow_gates[(B * NH,)](
        inputs.igate, inputs.fgate, inputs.mask, inputs.m, positions, chunks, end_m,
        *inputs.igate.stride(), S, N, NH, -0.5 * math.log2(DK), HAS_MASK=inputs.mask is not None,
        HAS_STATE=inputs.c is not None, FIELDS=fields, L=plan.length, C=turn,
        num_warps=min(8, max(1, turn * plan.length // GATES_PER_WARP)),
    )  # fmt: skip
    return positions, chunks, end_m


def backward(
    inputs: Inputs,
    plan: Plan,
    kept: tuple[Tensor, ...],
    grad_h: Tensor,
    end: tuple[Tensor, Tensor] | None,
    onward: Tensor | None,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v (B, S, NH, D), the gates (B, NH, S) and the first c and n (or None)."""
    from xlstm_model.kernels import mlstm_backward_kernels as kernels

    h, sums, border_c, border_n, positions, chunks = kept
    q, k, v = inputs.q, inputs.k, inputs.v
    (B, S, NH, DK), DV = q.shape, v.shape[-1]
    N, rows = -(-S // plan.length), B * NH
    alone = border_c.numel() == 0 and end is None
    if border_c.numel() == 0 and not alone:
        border_c, border_n = q.new_zeros(rows, N, DK, DV), sums.new_zeros(rows, N, DK)
    grads = [torch.empty_like(x) for x in (q, k, v)]
    grad_i, grad_f = (x.new_empty(B, S, NH).transpose(1, 2) for x in (inputs.igate, inputs.fgate))
    end_c, end_n = (None, None) if end is None else end
    start_c, start_n = (None if x is None else torch.empty_like(x) for x in (inputs.c, inputs.n))
    strides, sizes = inputs.fgate.stride(), (S, N, NH, DK, DV)
    has_mask = {"HAS_MASK": inputs.mask is not None}
    precision = {"PRECISION": library.precision(q.dtype)}
    options = {"HAS_STATE": inputs.c is not None, "HAS_END": end is not None, "L": plan.length}
    options |= has_mask | precision
    bk, bv = library.power_of_two(DK), library.power_of_two(DV)
    grad_sums = grad_c = grad_n = decay = None
    if not plan.carry:
        grad_sums, decay = torch.empty_like(sums), torch.empty_like(sums)
        grad_c, grad_n = torch.empty_like(border_c), torch.empty_like(border_n)
        kernels.recall_sums[(rows, N)](
            h, grad_h, inputs.mask, sums, positions, grad_sums, S, N, NH, DV,
            L=plan.length, BV=min(bv, 64), num_warps=4, **has_mask, **precision,
        )  # fmt: skip
        tk, tv = (min(*pair) for pair in zip((bk, bv), plan.state_tile, strict=True))
        kernels.remember_backward[(rows, -(-DK // tk), -(-DV // tv))](
            q, inputs.mask, positions, chunks, sums, grad_h, grad_sums, end_c, end_n, grad_c,
            grad_n, start_c, start_n, *sizes, BK=tk, BV=tv, num_warps=plan.state_warps,
            num_stages=plan.state_stages, **options,
        )  # fmt: skip
    kernels.read_backward[(rows, 1 if plan.carry else N)](
        q, k, v, inputs.fgate, inputs.mask, positions, chunks, h, sums, grad_h, grad_sums, border_c,
        border_n, grad_c, grad_n, end_c, end_n, start_c, start_n, *grads, grad_i, grad_f, decay,
        onward, *strides, *sizes, CARRY=plan.carry, ALONE=alone, BK=bk, BV=plan.backward_tile,
        TILES=bv // plan.backward_tile, num_warps=plan.backward_warps,
        num_stages=plan.backward_stages, **options,
    )  # fmt: skip
    if not plan.carry:
        kernels.decay_backward[(rows,)](
            inputs.fgate, inputs.mask, decay, onward, grad_f, *strides, S, NH,
            HAS_END=end is not None, L=min(1024, library.power_of_two(S)), num_warps=4, **has_mask,
        )  # fmt: skip
    return *grads, grad_i, grad_f, start_c, start_n


class MLSTM(torch.autograd.Function):
    """``mlstm`` with its gradient, recomputed from the inputs and the states between chunks."""

    @staticmethod
    def forward(ctx, q, k, v, igate, fgate, c, n, m, mask, plan):  # type: ignore[no-untyped-def]
        inputs = gather_inputs(q, k, v, igate, fgate, c, n, m, mask)
        B, S, NH, DK = inputs.q.shape
        plan = plan or make_plan(B * NH, S, DK, v.shape[-1], q.dtype)
        h, end_c, end_n, end_m, *kept = forward(inputs, plan)
        ctx.save_for_backward(*inputs, h, *kept, end_c, end_n)
        ctx.plan = plan
        ctx.dtypes = [None if x is None else x.dtype for x in (c, n, m)]
        ctx.set_materialize_grads(False)
        return h.transpose(1, 2), end_c, end_n, end_m

    @staticmethod
    def backward(ctx, grad_h, grad_c, grad_n, grad_m):  # type: ignore[no-untyped-def]
        refuse_double_backward("xlstm_model.cells.mlstm_reference")
        saved = ctx.saved_tensors
        inputs, kept, last = Inputs(*saved[:9]), saved[9:15], saved[15:]
        *grads, c, n, m = gradients(inputs, ctx.plan, kept, last, grad_h, (grad_c, grad_n, grad_m))
        start = (
            None if x is None else x.to(dtype)
            for x, dtype in zip((c, n, m), ctx.dtypes, strict=True)
        )
        return *grads, *start, None, None


def gradients(
    inputs: Inputs,
    plan: Plan,
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
    h = kept[0]
    grad_h = torch.zeros_like(h) if grad_h is None else grad_h.transpose(1, 2).contiguous()
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
        grad_i, grad_f, through = _through_stabilizer(inputs, plan, grad_i, grad_f, grad_last)
        grad_m = None if grad_m is None else grad_m + through
    dense = (x.transpose(1, 2) for x in dense)
    return *dense, grad_i, grad_f, start_c, start_n, grad_m


def _inner(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of the products of two memories (B, NH), in float64."""
    matrix = (a[0] * b[0]).sum((-1, -2), dtype=torch.float64)
    return matrix + (a[1] * b[1]).sum(-1, dtype=torch.float64)


def _through_stabilizer(
    inputs: Inputs, plan: Plan, grad_i: Tensor, grad_f: Tensor, grad_last: Tensor
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
        *inputs[:3], log_i, log_f, None, None, m, mask, 0.0, -(-log_i.shape[-1] // plan.length)
    )
    to_i, to_f, to_m = path_gradient(arguments, None, grad_last.flatten())
    if mask is not None:
        to_i = torch.where(mask.unsqueeze(1), to_i, 0.0)
    to_f = to_f * torch.where(log_f < 0, -torch.expm1(log_f), 0.0)
    grad_i = (grad_i.double() + to_i).to(grad_i.dtype)
    return grad_i, (grad_f.double() + to_f).to(grad_f.dtype), to_m
