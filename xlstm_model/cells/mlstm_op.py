"""The chunkwise mLSTM as one operator of PyTorch, with its gradient.

Being an operator, it is one node to ``torch.compile``, whatever the length and number of chunks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlstm_model.cells.checks import refuse_double_backward
from xlstm_model.cells.mlstm_passes import Saved, backward_pass, forward_pass
from xlstm_model.cells.states import compute_dtype


@torch.library.custom_op(
    "xlstm_model::mlstm_chunkwise",
    mutates_args=(),
    schema=(
        "(Tensor q, Tensor k, Tensor v, Tensor log_i, Tensor log_f, Tensor? c, Tensor? n, "
        "Tensor m, Tensor? mask, float eps, SymInt num_chunks) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def mlstm_chunkwise_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    c: Tensor | None,
    n: Tensor | None,
    m: Tensor,
    mask: Tensor | None,
    eps: float,
    num_chunks: int,
) -> tuple[Tensor, ...]:
    """See ``forward_pass``; returns the final c, n, m and then the fields of ``Saved``."""
    with torch.autocast(q.device.type, enabled=False):
        saved, last = forward_pass(q, k, v, log_i, log_f, c, n, m, mask, eps, num_chunks)
    heads = q.shape[:2]
    c, n = (x[-1].clone().unflatten(0, heads) for x in (saved.c, saved.n))
    return c, n, last.clone(), *saved


@mlstm_chunkwise_op.register_fake
def _(q, k, v, log_i, log_f, c, n, m, mask, eps, num_chunks):  # type: ignore[no-untyped-def]
    B, NH, S, DK = q.shape
    DV, G, N = v.shape[-1], B * NH, num_chunks
    L = (S + N - 1) // N
    new = q.new_empty
    dtype = compute_dtype(q.dtype)
    shapes = [(N, G, L, DK), (N, G, L, DK), (N, G, L, DV), (N, G, L)]
    shapes += [(N + 1, G, DK, DV), (N + 1, G, DK)]
    return (
        new((B, NH, DK, DV), dtype=dtype),
        new((B, NH, DK), dtype=dtype),
        new((B, NH), dtype=dtype),
        v.new_empty(B, S, NH, DV).transpose(1, 2),
        *(new(shape, dtype=dtype) for shape in shapes),
    )


@torch.library.custom_op(
    "xlstm_model::mlstm_chunkwise_backward",
    mutates_args=(),
    schema=(
        "(Tensor[] saved, Tensor log_i, Tensor log_f, Tensor m, Tensor? mask, float eps, "
        "bool is_empty, Tensor? grad_h, Tensor? grad_c, Tensor? grad_n, Tensor? grad_m) -> "
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def mlstm_chunkwise_backward_op(
    saved: list[Tensor],
    log_i: Tensor,
    log_f: Tensor,
    m: Tensor,
    mask: Tensor | None,
    eps: float,
    is_empty: bool,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    grad_n: Tensor | None,
    grad_m: Tensor | None,
) -> tuple[Tensor, ...]:
    """See ``backward_pass``; gradients that are none are empty tensors."""
    with torch.autocast(m.device.type, enabled=False):
        *grads, start, last = backward_pass(
            Saved(*saved), log_i, log_f, m, mask, eps, is_empty, grad_h, (grad_c, grad_n, grad_m)
        )
    heads = log_i.shape[:2]
    memory = [m.new_empty(0)] * 2 if start is None else [x.unflatten(0, heads) for x in start]
    return (
        *grads[:3],
        *(x.contiguous() for x in grads[3:]),  # compilers rely on the strides told them below
        *(x.clone() for x in memory),
        m.new_empty(0) if last is None else last.to(m.dtype),
    )


@mlstm_chunkwise_backward_op.register_fake
def _(saved, log_i, log_f, m, mask, eps, is_empty, grad_h, grad_c, grad_n, grad_m):  # type: ignore[no-untyped-def]
    h, q = saved[:2]
    B, NH, S, DV = h.shape
    DK = q.shape[-1]

    def dense(width: int) -> Tensor:
        return q.new_empty(B, S, NH, width).transpose(1, 2)

    has_m = not is_empty or eps or any(x is not None for x in (grad_c, grad_n, grad_m))
    return (
        dense(DK),
        dense(DK),
        dense(DV),
        log_i.new_empty(log_i.shape),
        log_f.new_empty(log_f.shape),
        m.new_empty(0) if is_empty else q.new_empty(B, NH, DK, DV),
        m.new_empty(0) if is_empty else q.new_empty(B, NH, DK),
        torch.empty_like(m) if has_m else m.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, log_i, log_f, c, _, m, mask, eps, _ = inputs
    ctx.save_for_backward(log_i, log_f, m, mask, *output[3:])
    ctx.eps, ctx.is_empty, ctx.dtypes = eps, c is None, (q.dtype, k.dtype, v.dtype)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    refuse_double_backward("mlstm_reference")
    log_i, log_f, m, mask, *saved = ctx.saved_tensors
    results = mlstm_chunkwise_backward_op(
        saved, log_i, log_f, m, mask, ctx.eps, ctx.is_empty, grads[3], *grads[:3]
    )
    dense = (x.to(dtype) for x, dtype in zip(results[:3], ctx.dtypes, strict=True))
    gates, memory, last = results[3:5], results[5:7], results[7]
    if ctx.is_empty:
        memory = (None, None)
    return *dense, *gates, *memory, last if last.numel() else None, None, None, None


mlstm_chunkwise_op.register_autograd(_backward, setup_context=_setup_context)
