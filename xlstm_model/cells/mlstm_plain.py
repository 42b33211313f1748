"""Chunkwise mLSTM in plain differentiable operations, for exporters and transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xlstm_model.cells.mlstm_gates import denominator_floor, finite
from xlstm_model.cells.states import MLSTMState, compute_dtype


def chunkwise_plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    state: MLSTMState,
    mask: Tensor | None,
    eps: float,
    num_chunks: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Same arguments and results as ``mlstm_chunkwise_op``, but the state is always given."""
    dtype = compute_dtype(q.dtype)
    length = -(-q.shape[2] // num_chunks)
    parts = [x.to(dtype) for x in (q, k, v)]
    if mask is not None:
        parts = [torch.where(mask[:, None, :, None], x, 0.0) for x in parts]
    c, n, m = state.c, state.n, state.m.double()
    outputs = []
    for queries, keys, values, i, f in zip(
        *(x.split(length, dim=2) for x in (*parts, log_i, log_f)), strict=True
    ):
        h, c, n, m = _chunk(queries, keys, values, i, f, c, n, m, eps)
        outputs.append(h)
    return torch.cat(outputs, dim=2).to(v.dtype), c, n, m.to(dtype)


def _chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    c: Tensor,
    n: Tensor,
    m: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype, length = q.dtype, q.shape[2]
    k = k / math.sqrt(q.shape[-1])
    total = log_f.cumsum(-1)
    relative = log_i - total
    peak = torch.maximum(m.unsqueeze(-1), torch.cummax(relative, -1).values)
    last = total[..., -1] + peak[..., -1]
    # Without eps an output does not depend on the stabiliser, whose gradient would be noise.
    peak = finite(peak if eps else peak.detach())
    causal = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    exponent = relative.unsqueeze(-2) - peak.unsqueeze(-1)
    weights = torch.where(causal, exponent, float("-inf")).exp().to(dtype)
    scores = (q @ k.transpose(-1, -2)) * weights
    reach = q * (m.unsqueeze(-1) - peak).exp().to(dtype).unsqueeze(-1)
    numerator = scores @ v + reach @ c
    denominator = scores.sum(-1) + (reach * n.unsqueeze(-2)).sum(-1)
    floor = denominator_floor((total + peak).to(dtype))
    h = numerator / (torch.maximum(denominator.abs(), floor) + eps).unsqueeze(-1)
    grown = total[..., -1] - finite(last)
    keep = (m + grown).exp().to(dtype)
    written = k * (relative + grown.unsqueeze(-1)).exp().to(dtype).unsqueeze(-1)
    c = keep[..., None, None] * c + written.transpose(-1, -2) @ v
    return h, c, keep.unsqueeze(-1) * n + written.sum(-2), last
