"""The chunkwise mLSTM in compiled kernels; the same two functions as ``cells.mlstm_chunks``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlstm_model.cells.memory import Memory
from xlstm_model.native import library

if TYPE_CHECKING:
    from xlstm_model.cells.mlstm_passes import Arguments, Result


def fits(arguments: Arguments) -> bool:
    """Whether the kernels can run this: float32 on the CPU, library present."""
    return library.fits(*arguments[:3], arguments.c, arguments.n)


def forward(arguments: Arguments) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``cells.mlstm_chunks.forward``."""
    q, v = arguments.q, arguments.v
    (B, NH, S, DK), DV, N = q.shape, v.shape[-1], arguments.num_chunks
    h = v.new_empty(B, S, NH, DV)
    denominator = v.new_empty(B, NH, S)
    c, n = v.new_empty(N + 1, B * NH, DK, DV), v.new_empty(N + 1, B * NH, DK)
    if arguments.c is None:
        c[0], n[0] = 0.0, 0.0
    else:
        c[0], n[0] = arguments.c.flatten(0, 1), arguments.n.flatten(0, 1)
    last = torch.empty(B, NH, dtype=torch.float64)
    tensors = [*_inputs(arguments), c, n, h, denominator, last]
    library.call("mlstm_forward", _sizes(arguments), tensors, B * NH, [arguments.eps])
    return h.transpose(1, 2), denominator, c, n, last.to(v.dtype)


def backward(
    arguments: Arguments, result: Result, grad_h: Tensor, end: Memory | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Memory | None]:
    """See ``cells.mlstm_chunks.backward``."""
    (B, NH, S, DK), DV = arguments.q.shape, arguments.v.shape[-1]
    grads = [grad_h.new_empty(B, S, NH, width) for width in (DK, DK, DV)]
    grad_i, grad_f = (torch.empty(B, NH, S, dtype=torch.float64) for _ in range(2))
    path = grad_h.new_empty(B, NH, S) if arguments.eps else None
    start = None
    if arguments.c is not None:
        start = Memory(torch.empty_like(result.c[0]), torch.empty_like(result.n[0]))
    tensors = [
        *_inputs(arguments),
        result.c,
        result.n,
        result.h.transpose(1, 2).contiguous(),
        grad_h.transpose(1, 2).contiguous(),
        result.denominator,
        *((None, None) if end is None else (x.contiguous() for x in end)),
        *grads,
        grad_i,
        grad_f,
        path,
        *((None, None) if start is None else start),
    ]
    library.call("mlstm_backward", _sizes(arguments), tensors, B * NH, [arguments.eps])
    return *(x.transpose(1, 2) for x in grads), grad_i, grad_f, path, start


def _sizes(arguments: Arguments) -> list[int]:
    (B, NH, S, DK), DV, N = arguments.q.shape, arguments.v.shape[-1], arguments.num_chunks
    return [B, NH, S, DK, DV, -(-S // N), N, int(arguments.c is None)]


def _inputs(arguments: Arguments) -> list[Tensor]:
    """q, k, v in (B, S, NH, D) memory, which is how blocks produce them, and the gates."""
    dense = [x.transpose(1, 2).contiguous() for x in arguments[:3]]
    gates = [arguments.log_i.contiguous(), arguments.log_f.contiguous()]
    return [*dense, *gates, arguments.m.double().contiguous()]
