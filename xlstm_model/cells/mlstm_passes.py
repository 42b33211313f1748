"""Forward and backward pass of the chunkwise mLSTM, written by hand.

The backward recomputes the weights between positions from the gates instead of keeping them. The
stabiliser carries no gradient of an output, which does not depend on it. What remains of the gates'
gradients follows from how they enter the equations: a key always comes with ``exp(log i)`` and the
decays after its own position, a query with the decays up to its position, so with F the running sum
of ``log f``

    dL/d log i_t = k_t · dL/dk_t,    dL/dF_t = q_t · dL/dq_t - k_t · dL/dk_t,

and ``dL/d log f`` is the sum of the latter over all positions from its own on.

The matrix products run in compiled kernels where they fit (``xlstm_model.native``), otherwise in
PyTorch's operations (``mlstm_chunks``), to the same results.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells import chunk_layout as layout
from xlstm_model.cells import mlstm_chunks
from xlstm_model.cells.memory import Memory
from xlstm_model.cells.mlstm_gates import stabilizer_path_backward
from xlstm_model.native import mlstm as native


class Arguments(NamedTuple):
    """What both passes take; see ``mlstm_chunkwise``."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_i: Tensor
    """Logarithm of the input gate (B, NH, S), float64, -inf at padding."""
    log_f: Tensor
    """Logarithm of the forget gate (B, NH, S), float64, 0 at padding."""
    c: Tensor | None
    """Initial matrix memory (B, NH, DHQK, DHV), None when empty."""
    n: Tensor | None
    """Initial normaliser (B, NH, DHQK), None when empty."""
    m: Tensor
    """Initial stabiliser (B, NH)."""
    mask: Tensor | None
    eps: float
    num_chunks: int


class Result(NamedTuple):
    """What the forward pass calculates, all of which the backward pass needs."""

    h: Tensor
    """Outputs (B, NH, S, DHV)."""
    denominator: Tensor
    """Denominators before their absolute value (B, NH, S)."""
    c: Tensor
    """Matrix memories at the borders of the chunks (N + 1, B · NH, DHQK, DHV)."""
    n: Tensor
    """Normalisers at the borders of the chunks (N + 1, B · NH, DHQK)."""
    last: Tensor
    """Final stabiliser (B, NH)."""


def forward_pass(arguments: Arguments) -> Result:
    """Outputs and memories of a whole sequence."""
    core = native if native.fits(arguments) else mlstm_chunks
    return Result(*core.forward(arguments))


def backward_pass(
    arguments: Arguments,
    result: Result,
    grad_h: Tensor | None,
    grad_state: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Memory | None, Tensor | None]:
    """Gradients of a whole sequence.

    Args:
        arguments: As given to the forward pass.
        result: What the forward pass returned.
        grad_h: Gradient of the outputs, None for none.
        grad_state: Gradients of the final c, n and m, None for none.

    Returns:
        Gradients of q, k, v (in the dtype of calculation), log_i, log_f, of the initial memory
        (B · NH, ...) and of the initial stabiliser (B, NH); the last two None where they are none.
    """
    heads = arguments.m.shape
    borders = Memory(result.c, result.n)
    end, grad_last = _state_backward(borders, *grad_state)
    grad_h = torch.zeros_like(result.h) if grad_h is None else grad_h
    core = native if native.fits(arguments) else mlstm_chunks
    *dense, grad_i, grad_f, path, start = core.backward(arguments, result, grad_h, end)
    if end is not None:
        grad_f[..., -1] += _inner(end, borders, -1).view(heads)
    grad_f = grad_f.flip(-1).cumsum(-1).flip(-1)
    grad_m = None if start is None else _inner(start, borders, 0).view(heads)
    if arguments.eps or grad_last is not None:
        through = path_gradient(arguments, path, grad_last)
        grad_i, grad_f = grad_i + through[0], grad_f + through[1]
        grad_m = through[2] if grad_m is None else grad_m + through[2]
    return *dense, grad_i, grad_f, start, grad_m


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


def path_gradient(
    arguments: Arguments, grad_path: Tensor | None, grad_last: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of log_i, log_f and m through the running maximum itself.

    Needed where a result does depend on the stabiliser: with eps, or for the state, whose c and n
    were divided by exp(m).
    """
    log_i, log_f, m, num_chunks = (
        arguments.log_i,
        arguments.log_f,
        arguments.m,
        arguments.num_chunks,
    )
    num_heads, seq_len = log_i.shape[1:]
    length = -(-seq_len // num_chunks)
    gates = [
        layout.pack_gate(x, fill, num_chunks, length)
        for x, fill in ((log_i, -math.inf), (log_f, 0.0))
    ]
    grad = torch.zeros_like(gates[0])
    if grad_path is not None:
        grad += layout.pack_gate(grad_path, 0.0, num_chunks, length)
    if grad_last is not None:
        grad[-1, :, -1] += grad_last
    *grads, start = stabilizer_path_backward(*gates, m.flatten().double(), grad)
    grad_i, grad_f = (layout.unpack_gate(x, num_heads, seq_len) for x in grads)
    return grad_i, grad_f, start.view(m.shape)
