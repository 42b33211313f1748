"""Chunkwise mLSTM with a hand-written backward: the form for training and prefill.

The backward recomputes the weights between positions from the gates instead of keeping them. The
stabiliser carries no gradient of an output, which does not depend on it. What remains of the gates'
gradients follows from how they enter the equations: a key always comes with ``exp(log i)`` and the
decays after its own position, a query with the decays up to its position, so with F the running sum
of ``log f``

    dL/d log i_t = k_t · dL/dk_t,    dL/dF_t = q_t · dL/dq_t - k_t · dL/dk_t,

and ``dL/d log f`` is the sum of the latter over all positions from its own on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from xlstm_model.cells import chunk_layout as layout
from xlstm_model.cells import mlstm_chunks as chunks
from xlstm_model.cells.checks import refuse_double_backward
from xlstm_model.cells.mlstm_chunks import Memory, ReadGradient
from xlstm_model.cells.mlstm_gates import ChunkFactors, chunk_factors, stabilizer_path
from xlstm_model.cells.states import compute_dtype


class ChunkwiseMLSTM(torch.autograd.Function):
    """``(h, c, n, m)`` of a whole sequence, given its log gates.

    Arguments are those of ``mlstm_chunkwise``, but ``log_i`` and ``log_f`` (B, NH, S) are float64
    logarithms of the gates with -inf and 0 at padding, c and n are None for an empty memory, and
    the number of chunks is given.
    """

    @staticmethod
    def forward(
        ctx: Any,
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
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Calculate, keeping q, k, v, the borders' memories and what has no feature dimension."""
        B, NH, S, _ = q.shape
        length = -(-S // num_chunks)
        dtype = compute_dtype(q.dtype)
        start = None if c is None else Memory(c.flatten(0, 1), n.flatten(0, 1))
        with torch.autocast(q.device.type, enabled=False):
            rows = layout.padding_rows(mask, NH, num_chunks, length)
            packed = [layout.pack(x, rows, num_chunks, length, dtype) for x in (q, k, v)]
            factors = _factors(packed[0], log_i, log_f, m)
            borders = chunks.remember(*packed[1:], factors, start)
            numerator, denominator = chunks.read(*packed, factors, borders, int(start is None))
            divisor = torch.maximum(denominator.abs(), factors.floor) + eps
            h = layout.unpack_quotient(numerator, divisor, NH, S, v.dtype)
        ctx.save_for_backward(*packed, log_i, log_f, m, rows, h, denominator, *borders)
        ctx.eps, ctx.is_empty, ctx.dtypes = eps, start is None, (q.dtype, k.dtype, v.dtype)
        ctx.set_materialize_grads(False)
        end = [x.clone().unflatten(0, (B, NH)) for x in (*(x[-1] for x in borders), factors.last)]
        return h, *end

    @staticmethod
    def backward(
        ctx: Any, grad_h: Tensor | None, *grad_state: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v, log_i, log_f, c, n and m."""
        refuse_double_backward("mlstm_reference")
        q, k, v, log_i, log_f, m, rows, h, denominator, *borders = ctx.saved_tensors
        B, NH, S, _ = h.shape
        with torch.autocast(q.device.type, enabled=False):
            factors, borders = _factors(q, log_i, log_f, m), Memory(*borders)
            grad_h = torch.zeros_like(h) if grad_h is None else grad_h
            out, share, grad_path = _output_backward(
                grad_h, h, denominator, factors.floor, ctx.eps, rows
            )
            grads = chunks.attend_backward(q, k, v, factors, out)
            end, grad_last = _state_backward(borders, *grad_state)
            start = chunks.memory_backward(
                q, k, v, factors, borders, int(ctx.is_empty), out, end, grads
            )
            grad_i = (k * grads[1]).sum(-1, dtype=torch.float64)
            grad_f = layout.unpack_gate(share - grad_i, NH, S)
            if end is not None:
                grad_f[..., -1] += _inner(end, borders, -1).view(B, NH)
            grad_f = grad_f.flip(-1).cumsum(-1).flip(-1)
            grad_i = layout.unpack_gate(grad_i, NH, S)
            grad_m = None if start is None else _inner(start, borders, 0).view(B, NH)
            if ctx.eps or grad_last is not None:
                path = _path_gradient(log_i, log_f, m, len(q), grad_path, grad_last)
                grad_i, grad_f = grad_i + path[0], grad_f + path[1]
                grad_m = path[2] if grad_m is None else grad_m + path[2]
            dense = [
                layout.unpack(x, NH, S, dtype) for x, dtype in zip(grads, ctx.dtypes, strict=True)
            ]
        memory = (None, None) if start is None else (x.unflatten(0, (B, NH)) for x in start)
        return *dense, grad_i, grad_f, *memory, grad_m, None, None, None


def _factors(q: Tensor, log_i: Tensor, log_f: Tensor, m: Tensor) -> ChunkFactors:
    num_chunks, _, length, width = q.shape
    return chunk_factors(
        layout.pack_gate(log_i, -math.inf, num_chunks, length),
        layout.pack_gate(log_f, 0.0, num_chunks, length),
        m.flatten().double(),
        1 / math.sqrt(width),
        q.dtype,
    )


def _output_backward(
    grad_h: Tensor,
    h: Tensor,
    denominator: Tensor,
    floor: Tensor,
    eps: float,
    rows: Tensor | None,
) -> tuple[ReadGradient, Tensor, Tensor | None]:
    """Gradient of what was read, query's share of dL/dF, and gradient of the stabilisers."""
    num_chunks, _, length = denominator.shape
    magnitude = denominator.abs()
    divisor = torch.maximum(magnitude, floor) + eps
    numerator = layout.pack(grad_h, rows, num_chunks, length, denominator.dtype)
    numerator.div_(divisor.unsqueeze(-1))
    inner = (grad_h * h).sum(-1, dtype=denominator.dtype)
    inner = layout.blank(layout.pack_gate(inner, 0.0, num_chunks, length), rows)
    # Where the floor bounds the denominator, its gradient goes to the stabiliser and cancels there.
    ratio = torch.where(magnitude >= floor, inner / divisor, 0.0)
    share = inner - ratio * magnitude
    path = -eps * (inner / divisor) if eps else None
    return ReadGradient(numerator, -ratio * denominator.sign()), share.double(), path


def _state_backward(
    borders: Memory, grad_c: Tensor | None, grad_n: Tensor | None, grad_m: Tensor | None
) -> tuple[Memory | None, Tensor | None]:
    """Gradients of the final memory (G, ...) and, as it was divided by exp(m), of the final m."""
    if grad_c is None and grad_n is None and grad_m is None:
        return None, None
    last = Memory(*(x[-1] for x in borders))
    end = Memory(
        *(
            torch.zeros_like(x) if grad is None else grad.reshape(x.shape)
            for x, grad in zip(last, (grad_c, grad_n), strict=True)
        )
    )
    grad_last = -_inner(end, borders, -1)
    return end, grad_last if grad_m is None else grad_last + grad_m.flatten()


def _inner(grad: Memory, borders: Memory, border: int) -> Tensor:
    """Sum of gradient times value over one border's memory (G,), in float64."""
    matrix = (grad.c * borders.c[border]).sum((-1, -2), dtype=torch.float64)
    return matrix + (grad.n * borders.n[border]).sum(-1, dtype=torch.float64)


def _path_gradient(
    log_i: Tensor,
    log_f: Tensor,
    m: Tensor,
    num_chunks: int,
    grad_path: Tensor | None,
    grad_last: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of log_i, log_f and m through the running maximum itself.

    Needed where a result does depend on the stabiliser: with eps, or for the state, whose c and n
    were divided by exp(m).
    """
    leaves = [x.detach().requires_grad_() for x in (log_i, log_f, m.double())]
    length = -(-log_i.shape[-1] // num_chunks)
    with torch.enable_grad():
        packed = (
            layout.pack_gate(leaf, fill, num_chunks, length)
            for leaf, fill in zip(leaves[:2], (-math.inf, 0.0), strict=True)
        )
        total, _, peak, borders = stabilizer_path(*packed, leaves[2].flatten())
        results, grads = [], []
        if grad_path is not None:
            results.append(total + peak)
            grads.append(grad_path.double())
        if grad_last is not None:
            results.append(borders[-1])
            grads.append(grad_last.double())
        return torch.autograd.grad(results, leaves, grads)
