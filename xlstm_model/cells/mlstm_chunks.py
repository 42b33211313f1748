"""The matrix products of the chunkwise mLSTM and their gradients, on tensors cut into chunks.

All tensors but arguments and results of ``forward`` and ``backward`` are (N, G, L, D) or, without
features, (N, G, L); G = B · NH. Nothing here is recorded by autograd: ``mlstm_chunkwise_op`` calls
both directions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells import chunk_layout as layout
from xlstm_model.cells.memory import Memory
from xlstm_model.cells.mlstm_gates import ChunkFactors, causal_weights, chunk_factors
from xlstm_model.cells.states import compute_dtype

if TYPE_CHECKING:
    from xlstm_model.cells.mlstm_passes import Arguments, Result


class ReadGradient(NamedTuple):
    """Gradients of the two sums a position reads."""

    numerator: Tensor
    """(N, G, L, DHV)."""
    denominator: Tensor
    """(N, G, L), of the sum before its absolute value."""


def forward(arguments: Arguments) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Fields of ``mlstm_passes.Result``."""
    v, c, n, m = arguments.v, arguments.c, arguments.n, arguments.m
    NH, S = v.shape[1:3]
    start = None if c is None else Memory(c.flatten(0, 1), n.flatten(0, 1))
    packed, _ = _pack_inputs(arguments)
    factors = _factors(arguments, packed[0])
    borders = remember(*packed[1:], factors, start)
    numerator, denominator = read(*packed, factors, borders, int(start is None))
    divisor = torch.maximum(denominator.abs(), factors.floor) + arguments.eps
    h = layout.unpack_quotient(numerator, divisor, NH, S, v.dtype)
    denominator = layout.unpack_gate(denominator, NH, S)
    return h, denominator, *borders, factors.last.clone().view(m.shape)


def backward(
    arguments: Arguments, result: Result, grad_h: Tensor, end: Memory | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Memory | None]:
    """Gradients through everything but the final sums over the gates.

    Args:
        arguments: As given to ``forward``.
        result: What ``forward`` returned.
        grad_h: Gradient of the outputs, anything at padding.
        end: Gradient of the final memory (G, ...), None for none.

    Returns:
        Gradients of q, k and v, of log_i, of F, of the stabilisers (with eps only) and of the
        memory before the first position.
    """
    NH, S = arguments.v.shape[1:3]
    (q, k, v), rows = _pack_inputs(arguments)
    factors = _factors(arguments, q)
    borders, first = Memory(result.c, result.n), int(arguments.c is None)
    inner = (grad_h * result.h).sum(-1, dtype=q.dtype)
    cut = [layout.pack_gate(x, 0.0, *q.shape[0:3:2]) for x in (inner, result.denominator)]
    out, share, path = _output_backward(
        layout.pack(grad_h, rows, *q.shape[0:3:2], q.dtype),
        layout.blank(cut[0], rows),
        cut[1],
        factors.floor,
        arguments.eps,
    )
    grads = attend_backward(q, k, v, factors, out)
    start = memory_backward(q, k, v, factors, borders, first, out, end, grads)
    grad_i = (k * grads[1]).sum(-1, dtype=torch.float64)
    gates = [layout.unpack_gate(x, NH, S) for x in (grad_i, share - grad_i)]
    path = None if path is None else layout.unpack_gate(path, NH, S)
    return *(layout.unpack(x, NH, S, x.dtype) for x in grads), *gates, path, start


def _pack_inputs(arguments: Arguments) -> tuple[list[Tensor], Tensor | None]:
    """q, k and v cut, and which of their rows are padding."""
    q, N = arguments.q, arguments.num_chunks
    length = -(-q.shape[2] // N)
    rows = layout.padding_rows(arguments.mask, q.shape[1], N, length)
    dtype = compute_dtype(q.dtype)
    return [layout.pack(x, rows, N, length, dtype) for x in arguments[:3]], rows


def _factors(arguments: Arguments, q: Tensor) -> ChunkFactors:
    num_chunks, _, length, width = q.shape
    return chunk_factors(
        layout.pack_gate(arguments.log_i, -math.inf, num_chunks, length),
        layout.pack_gate(arguments.log_f, 0.0, num_chunks, length),
        arguments.m.flatten().double(),
        1 / math.sqrt(width),
        q.dtype,
    )


def _output_backward(
    grad_h: Tensor, inner: Tensor, denominator: Tensor, floor: Tensor, eps: float
) -> tuple[ReadGradient, Tensor, Tensor | None]:
    """Gradient of what was read, queries' share of dL/dF, and gradient of the stabilisers."""
    magnitude = denominator.abs()
    divisor = torch.maximum(magnitude, floor) + eps
    # Where the floor bounds the denominator, its gradient goes to the stabiliser and cancels there.
    ratio = torch.where(magnitude >= floor, inner / divisor, 0.0)
    share = inner - ratio * magnitude
    path = -eps * (inner / divisor) if eps else None
    numerator = grad_h.div_(divisor.unsqueeze(-1))
    return ReadGradient(numerator, -ratio * denominator.sign()), share.double(), path


def remember(k: Tensor, v: Tensor, factors: ChunkFactors, start: Memory | None) -> Memory:
    """Memory at the borders of the chunks.

    Args:
        k: Keys.
        v: Values.
        factors: What ``chunk_factors`` returned.
        start: Memory before the first chunk (G, ...), None when empty.

    Returns:
        Memory (N + 1, G, ...): before the first chunk and after each.
    """
    N, G, _, DK = k.shape
    c, n = k.new_empty(N + 1, G, DK, v.shape[-1]), k.new_empty(N + 1, G, DK)
    written = k * factors.write.unsqueeze(-1)
    _bmm(written.transpose(-1, -2), v, out=c[1:])
    torch.sum(written, -2, out=n[1:])
    c[0], n[0] = (0.0, 0.0) if start is None else start
    for i in range(0 if start is not None else 1, N):
        c[i + 1].addcmul_(c[i], factors.keep[i, :, None, None])
        n[i + 1].addcmul_(n[i], factors.keep[i, :, None])
    return Memory(c, n)


def read(
    q: Tensor, k: Tensor, v: Tensor, factors: ChunkFactors, borders: Memory, first: int
) -> tuple[Tensor, Tensor]:
    """Numerator (N, G, L, DHV) and denominator (N, G, L) of the outputs.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        factors: What ``chunk_factors`` returned.
        borders: What ``remember`` returned.
        first: First chunk that has something to read from before it, 0 or 1.
    """
    scores = _bmm(q, k.transpose(-1, -2)).mul_(causal_weights(factors.relative, factors.peak))
    numerator, denominator = _bmm(scores, v), scores.sum(-1)
    if first < len(q):
        reach = q[first:] * factors.read[first:].unsqueeze(-1)
        _add_bmm(numerator[first:], reach, borders.c[first:-1])
        denominator[first:] += (reach * borders.n[first:-1].unsqueeze(-2)).sum(-1)
    return numerator, denominator


def attend_backward(
    q: Tensor, k: Tensor, v: Tensor, factors: ChunkFactors, out: ReadGradient
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v through what positions read from their own chunk."""
    weights = causal_weights(factors.relative, factors.peak)
    grad_scores = _bmm(out.numerator, v.transpose(-1, -2))
    grad_scores.add_(out.denominator.unsqueeze(-1)).mul_(weights)
    grad_q = _bmm(grad_scores, k)
    grad_k = _bmm(grad_scores.transpose(-1, -2), q)
    scores = _bmm(q, k.transpose(-1, -2)).mul_(weights)
    return grad_q, grad_k, _bmm(scores.transpose(-1, -2), out.numerator)


def memory_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factors: ChunkFactors,
    borders: Memory,
    first: int,
    out: ReadGradient,
    end: Memory | None,
    grads: tuple[Tensor, Tensor, Tensor],
) -> Memory | None:
    """Gradients through the memories at the borders of the chunks.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        factors: What ``chunk_factors`` returned.
        borders: What ``remember`` returned.
        first: As in ``read``.
        out: Gradients of what positions read.
        end: Gradient of the memory after the last chunk (G, ...), None for none.
        grads: Gradients of q, k and v so far, changed.

    Returns:
        Gradient of the memory before the first chunk (G, ...), None where that was empty.
    """
    N = len(q)
    if first == N and end is None:
        return None
    # Entry j belongs to border j + first; the last entry to the end.
    total = Memory(*(x.new_empty(N - first + 1, *x.shape[1:]) for x in borders))
    total.c[-1], total.n[-1] = (0.0, 0.0) if end is None else end
    if first < N:
        _recall_backward(q, factors, borders, first, out, grads[0], total)
    for j in range(N - first - 1, -1, -1):
        total.c[j].addcmul_(total.c[j + 1], factors.keep[j + first, :, None, None])
        total.n[j].addcmul_(total.n[j + 1], factors.keep[j + first, :, None])
    written = slice(1 - first, None if end is not None else -1)
    _remember_backward(k, v, factors, Memory(*(x[written] for x in total)), *grads[1:])
    return None if first else Memory(total.c[0], total.n[0])


def _recall_backward(
    q: Tensor,
    factors: ChunkFactors,
    borders: Memory,
    first: int,
    out: ReadGradient,
    grad_q: Tensor,
    total: Memory,
) -> None:
    share = factors.read[first:].unsqueeze(-1)
    numerator, denominator = (x[first:] for x in out)
    reach = q[first:] * share
    grad_reach = _bmm(numerator, borders.c[first:-1].transpose(-1, -2))
    grad_reach.addcmul_(denominator.unsqueeze(-1), borders.n[first:-1].unsqueeze(-2))
    grad_q[first:].addcmul_(grad_reach, share)
    _bmm(reach.transpose(-1, -2), numerator, out=total.c[:-1])
    torch.sum(reach.mul_(denominator.unsqueeze(-1)), -2, out=total.n[:-1])


def _remember_backward(
    k: Tensor, v: Tensor, factors: ChunkFactors, grad: Memory, grad_k: Tensor, grad_v: Tensor
) -> None:
    count = len(grad.c)
    share = factors.write[:count].unsqueeze(-1)
    grad_written = _bmm(v[:count], grad.c.transpose(-1, -2)).add_(grad.n.unsqueeze(-2))
    grad_k[:count].addcmul_(grad_written, share)
    _add_bmm(grad_v[:count], k[:count] * share, grad.c)


def _bmm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    if out is None:
        return torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, a.shape[:2])
    return torch.bmm(a.flatten(0, 1), b.flatten(0, 1), out=out.flatten(0, 1))


def _add_bmm(total: Tensor, a: Tensor, b: Tensor) -> None:
    total.flatten(0, 1).baddbmm_(a.flatten(0, 1), b.flatten(0, 1))
