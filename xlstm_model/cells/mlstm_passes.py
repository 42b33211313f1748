"""Forward and backward pass of the chunkwise mLSTM, written by hand.

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
from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells import chunk_layout as layout
from xlstm_model.cells import mlstm_chunks as chunks
from xlstm_model.cells.mlstm_chunks import Memory, ReadGradient
from xlstm_model.cells.mlstm_gates import ChunkFactors, chunk_factors, stabilizer_path_backward
from xlstm_model.cells.states import compute_dtype


class Saved(NamedTuple):
    """What the backward pass needs beside the gates, the start and the mask."""

    h: Tensor
    """Outputs (B, NH, S, DHV)."""
    q: Tensor
    """Queries, cut (N, G, L, DHQK)."""
    k: Tensor
    """Keys, cut (N, G, L, DHQK)."""
    v: Tensor
    """Values, cut (N, G, L, DHV)."""
    denominator: Tensor
    """Denominators before their absolute value, cut (N, G, L)."""
    c: Tensor
    """Matrix memories at the borders (N + 1, G, DHQK, DHV)."""
    n: Tensor
    """Normalisers at the borders (N + 1, G, DHQK)."""


def forward_pass(
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
) -> tuple[Saved, Tensor]:
    """Outputs and memories of a whole sequence.

    Arguments are those of ``mlstm_chunkwise``, but ``log_i`` and ``log_f`` (B, NH, S) are float64
    logarithms of the gates with -inf and 0 at padding, c and n are None for an empty memory, and
    the number of chunks is given.

    Returns:
        What to keep, and the final stabiliser (B, NH).
    """
    B, NH, S, _ = q.shape
    length = -(-S // num_chunks)
    dtype = compute_dtype(q.dtype)
    start = None if c is None else Memory(c.flatten(0, 1), n.flatten(0, 1))
    rows = layout.padding_rows(mask, NH, num_chunks, length)
    packed = [layout.pack(x, rows, num_chunks, length, dtype) for x in (q, k, v)]
    factors = _factors(packed[0], log_i, log_f, m)
    borders = chunks.remember(*packed[1:], factors, start)
    numerator, denominator = chunks.read(*packed, factors, borders, int(start is None))
    divisor = torch.maximum(denominator.abs(), factors.floor) + eps
    h = layout.unpack_quotient(numerator, divisor, NH, S, v.dtype)
    return Saved(h, *packed, denominator, *borders), factors.last.unflatten(0, (B, NH))


def backward_pass(
    saved: Saved,
    log_i: Tensor,
    log_f: Tensor,
    m: Tensor,
    mask: Tensor | None,
    eps: float,
    is_empty: bool,
    grad_h: Tensor | None,
    grad_state: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Memory | None, Tensor | None]:
    """Gradients of a whole sequence.

    Args:
        saved: What the forward pass kept.
        log_i: As given to the forward pass.
        log_f: As given to the forward pass.
        m: As given to the forward pass.
        mask: As given to the forward pass.
        eps: As given to the forward pass.
        is_empty: Whether the memory before the first position was empty.
        grad_h: Gradient of the outputs, None for none.
        grad_state: Gradients of the final c, n and m, None for none.

    Returns:
        Gradients of q, k, v (in the dtype of calculation), log_i, log_f, of the initial memory
        (G, ...) and of the initial stabiliser (B, NH); the last two None where they are none.
    """
    h, q, k, v, denominator, *borders = saved
    B, NH, S, _ = h.shape
    borders = Memory(*borders)
    factors = _factors(q, log_i, log_f, m)
    rows = layout.padding_rows(mask, NH, len(q), q.shape[2])
    grad_h = torch.zeros_like(h) if grad_h is None else grad_h
    out, share, grad_path = _output_backward(grad_h, h, denominator, factors.floor, eps, rows)
    grads = chunks.attend_backward(q, k, v, factors, out)
    end, grad_last = _state_backward(borders, *grad_state)
    start = chunks.memory_backward(q, k, v, factors, borders, int(is_empty), out, end, grads)
    grad_i = (k * grads[1]).sum(-1, dtype=torch.float64)
    grad_f = layout.unpack_gate(share - grad_i, NH, S)
    if end is not None:
        grad_f[..., -1] += _inner(end, borders, -1).view(B, NH)
    grad_f = grad_f.flip(-1).cumsum(-1).flip(-1)
    grad_i = layout.unpack_gate(grad_i, NH, S)
    grad_m = None if start is None else _inner(start, borders, 0).view(B, NH)
    if eps or grad_last is not None:
        path = _path_gradient(log_i, log_f, m, len(q), grad_path, grad_last)
        grad_i, grad_f = grad_i + path[0], grad_f + path[1]
        grad_m = path[2] if grad_m is None else grad_m + path[2]
    dense = (layout.unpack(x, NH, S, x.dtype) for x in grads)
    return *dense, grad_i, grad_f, start, grad_m


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
    num_heads, seq_len = log_i.shape[1:]
    length = -(-seq_len // num_chunks)
    log_i = layout.pack_gate(log_i, -math.inf, num_chunks, length)
    log_f = layout.pack_gate(log_f, 0.0, num_chunks, length)
    grad = torch.zeros_like(log_i) if grad_path is None else grad_path.double()
    if grad_last is not None:
        grad[-1, :, -1] += grad_last
    grad_i, grad_f, start = stabilizer_path_backward(log_i, log_f, m.flatten().double(), grad)
    gates = (layout.unpack_gate(x, num_heads, seq_len) for x in (grad_i, grad_f))
    return *gates, start.view(m.shape)
