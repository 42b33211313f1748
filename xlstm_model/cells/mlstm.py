"""The mLSTM cell: parallel, chunkwise and step form of one recurrence.

For each head, with ``m`` the running stabiliser (Beck et al. 2024, equations 19 to 27)::

    m_t = max(log σ(f_t) + m_{t-1}, i_t)
    c_t = exp(log σ(f_t) + m_{t-1} - m_t) c_{t-1} + exp(i_t - m_t) (k_t / √DHQK) v_tᵀ
    n_t = exp(log σ(f_t) + m_{t-1} - m_t) n_{t-1} + exp(i_t - m_t) (k_t / √DHQK)
    h_t = c_tᵀ q_t / max(|n_tᵀ q_t|, exp(-m_t))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.cells.states import MLSTMState, compute_dtype, empty_mlstm_state


def mlstm_parallel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    *,
    state: MLSTMState | None = None,
    mask: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, MLSTMState]:
    """Whole sequence at once, with S × S weights: see ``mlstm_chunkwise``."""
    return mlstm_chunkwise(
        q,
        k,
        v,
        igate_preact,
        fgate_preact,
        state=state,
        mask=mask,
        eps=eps,
        chunk_size=max(q.shape[2], 1),
    )


def mlstm_chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    *,
    chunk_size: int = 64,
    state: MLSTMState | None = None,
    mask: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, MLSTMState]:
    """Whole sequence in chunks, linear in its length."""
    B, NH, S, DK = q.shape
    DV = v.shape[-1]
    dtype = compute_dtype(q.dtype)
    out_dtype = v.dtype
    if state is None:
        state = empty_mlstm_state(B, NH, DK, DV, device=q.device, dtype=dtype)
    log_i, log_f = igate_preact.to(dtype), F.logsigmoid(fgate_preact.to(dtype))
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if mask is not None:
        real = mask[:, None, :]
        log_i = torch.where(real, log_i, float("-inf"))
        log_f = torch.where(real, log_f, 0.0)
        q, k, v = (torch.where(real.unsqueeze(-1), t, 0.0) for t in (q, k, v))
    outputs = []
    c, n, m = state
    for start in range(0, S, chunk_size):
        part = slice(start, start + chunk_size)
        h, c, n, m = _chunk(
            q[:, :, part],
            k[:, :, part],
            v[:, :, part],
            log_i[:, :, part],
            log_f[:, :, part],
            c,
            n,
            m,
            eps,
        )
        outputs.append(h)
    return torch.cat(outputs, dim=2).to(out_dtype), MLSTMState(c, n, m)


def _chunk(q, k, v, log_i, log_f, c, n, m, eps):
    length = q.shape[2]
    total = log_f.cumsum(-1)
    relative = log_i - total
    peak = torch.maximum(m.unsqueeze(-1), torch.cummax(relative, -1).values)
    safe = torch.where(peak == float("-inf"), 0.0, peak)
    causal = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    exponent = relative.unsqueeze(-2) - safe.unsqueeze(-1)
    weight = torch.where(causal, exponent, float("-inf")).exp() / math.sqrt(q.shape[-1])
    scores = (q @ k.transpose(-1, -2)) * weight
    past = (m.unsqueeze(-1) - safe).exp()
    reach = q * past.unsqueeze(-1)
    numerator = scores @ v + reach @ c
    denominator = scores.sum(-1) + (reach * n.unsqueeze(-2)).sum(-1)
    h = numerator / (torch.maximum(denominator.abs(), floor(total + safe)) + eps).unsqueeze(-1)
    last = safe[..., -1:]
    keep = (m - last[..., 0]).exp()
    scaled = k * ((relative - last).exp() / math.sqrt(q.shape[-1])).unsqueeze(-1)
    c = keep[..., None, None] * c + scaled.transpose(-1, -2) @ v
    n = keep[..., None] * n + scaled.sum(-2)
    return h, c, n, peak[..., -1] + total[..., -1]


def floor(m: Tensor) -> Tensor:
    """``exp(-m)``, kept within the dtype's range so that no quotient overflows."""
    info = torch.finfo(m.dtype)
    return torch.exp((-m).clamp(2 * math.log(info.eps), math.log(info.max) - 1))


def mlstm_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    state: MLSTMState,
    *,
    eps: float = 0.0,
) -> tuple[Tensor, MLSTMState]:
    """One position."""
    dtype = compute_dtype(q.dtype)
    out_dtype = v.dtype
    q, k, v = q.to(dtype), k.to(dtype) / math.sqrt(q.shape[-1]), v.to(dtype)
    log_i, log_f = igate_preact.to(dtype), F.logsigmoid(fgate_preact.to(dtype))
    m = torch.maximum(log_f + state.m, log_i)
    keep, write = (log_f + state.m - m).exp(), (log_i - m).exp()
    written = write.unsqueeze(-1) * k
    c = keep[..., None, None] * state.c + written.unsqueeze(-1) * v.unsqueeze(-2)
    n = keep.unsqueeze(-1) * state.n + written
    numerator = (q.unsqueeze(-2) @ c).squeeze(-2)
    denominator = torch.maximum((q * n).sum(-1).abs(), floor(m)) + eps
    return (numerator / denominator.unsqueeze(-1)).to(out_dtype), MLSTMState(c, n, m)
