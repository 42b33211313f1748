"""The chunkwise mLSTM as one operator of PyTorch, with its gradient.

Being an operator, it is one node to ``torch.compile``, whatever the length and number of chunks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlstm_model.cells.mlstm_passes import Arguments, Result, backward_pass, forward_pass
from xlstm_model.cells.states import compute_dtype
from xlstm_model.tracing import refuse_double_backward

_ARGUMENTS = (
    "Tensor q, Tensor k, Tensor v, Tensor log_i, Tensor log_f, Tensor? c, Tensor? n, Tensor m, "
    "Tensor? mask, float eps, SymInt num_chunks"
)


@torch.library.custom_op(
    "xlstm_model::mlstm_chunkwise",
    mutates_args=(),
    schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def mlstm_chunkwise_op(*arguments: Any) -> tuple[Tensor, ...]:
    """See ``forward_pass``; returns the final c and n and then the fields of ``Result``."""
    arguments = Arguments(*arguments)
    with torch.autocast(arguments.q.device.type, enabled=False):
        result = forward_pass(arguments)
    heads = arguments.m.shape
    final = (x[-1].clone().unflatten(0, heads) for x in (result.c, result.n))
    return *final, *result._replace(denominator=result.denominator.contiguous())


@mlstm_chunkwise_op.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    q, _, v, *_, num_chunks = Arguments(*arguments)
    B, NH, S, DK = q.shape
    DV, G, N = v.shape[-1], B * NH, num_chunks

    def new(*shape: int) -> Tensor:
        return q.new_empty(shape, dtype=compute_dtype(q.dtype))

    return (
        new(B, NH, DK, DV),
        new(B, NH, DK),
        v.new_empty(B, S, NH, DV).transpose(1, 2),
        new(B, NH, S),
        new(N + 1, G, DK, DV),
        new(N + 1, G, DK),
        new(B, NH),
    )


@torch.library.custom_op(
    "xlstm_model::mlstm_chunkwise_backward",
    mutates_args=(),
    schema=(
        f"({_ARGUMENTS}, Tensor[] result, Tensor? grad_h, Tensor? grad_c, Tensor? grad_n, "
        "Tensor? grad_m) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def mlstm_chunkwise_backward_op(*arguments: Any) -> tuple[Tensor, ...]:
    """See ``backward_pass``; gradients that are none are empty tensors."""
    *arguments, result, grad_h, grad_c, grad_n, grad_m = arguments
    arguments = Arguments(*arguments)
    m = arguments.m
    with torch.autocast(m.device.type, enabled=False):
        *dense, grad_i, grad_f, start, last = backward_pass(
            arguments, Result(*result), grad_h, (grad_c, grad_n, grad_m)
        )
    none = m.new_empty(0)
    memory = (none, none) if start is None else (x.unflatten(0, m.shape) for x in start)
    rest = (grad_i, grad_f, *memory, none if last is None else last.to(m.dtype))
    # Fresh and contiguous: compilers rely on no aliases and on the strides told them below.
    return *dense, *(x.clone(memory_format=torch.contiguous_format) for x in rest)


@mlstm_chunkwise_backward_op.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    *arguments, _, _, grad_c, grad_n, grad_m = arguments
    q, _, v, log_i, log_f, c, _, m, _, eps, _ = Arguments(*arguments)
    (B, NH, S, DK), DV, dtype = q.shape, v.shape[-1], compute_dtype(q.dtype)

    def dense(width: int) -> Tensor:
        return q.new_empty((B, S, NH, width), dtype=dtype).transpose(1, 2)

    has_m = c is not None or eps or any(x is not None for x in (grad_c, grad_n, grad_m))
    return (
        dense(DK),
        dense(DK),
        dense(DV),
        log_i.new_empty(B, NH, S),
        log_f.new_empty(B, NH, S),
        m.new_empty(0) if c is None else q.new_empty((B, NH, DK, DV), dtype=dtype),
        m.new_empty(0) if c is None else q.new_empty((B, NH, DK), dtype=dtype),
        m.new_empty(B, NH) if has_m else m.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.num_chunks = inputs
    ctx.save_for_backward(*tensors, *output[2:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    refuse_double_backward("xlstm_model.cells.mlstm_reference")
    saved = ctx.saved_tensors
    tensors, result = saved[:9], list(saved[9:])
    grad_c, grad_n, grad_h, *_, grad_m = grads
    results = mlstm_chunkwise_backward_op(
        *tensors, ctx.eps, ctx.num_chunks, result, grad_h, grad_c, grad_n, grad_m
    )
    given = (
        None if x is None or not grad.numel() else grad.to(x.dtype)
        for x, grad in zip(tensors[:8], results, strict=True)
    )
    return *given, None, None, None


mlstm_chunkwise_op.register_autograd(_backward, setup_context=_setup_context)
