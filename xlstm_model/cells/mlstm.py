"""The mLSTM cell: parallel, chunkwise and step form of one recurrence.

For each head, with ``m`` the running stabiliser (Beck et al. 2024, equations 19 to 27)::

    m_t = max(log σ(f_t) + m_{t-1}, i_t)
    c_t = exp(log σ(f_t) + m_{t-1} - m_t) c_{t-1} + exp(i_t - m_t) (k_t / √DHQK) v_tᵀ
    n_t = exp(log σ(f_t) + m_{t-1} - m_t) n_{t-1} + exp(i_t - m_t) (k_t / √DHQK)
    h_t = c_tᵀ q_t / (max(|n_tᵀ q_t|, exp(-m_t)) + eps)

The forms agree to rounding. They start from any state and return the next one, so a history can be
processed in pieces of any size, by any mix of forms. Half-precision inputs are calculated in
float32, and so is their state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from xlstm_model.cells.checks import check_eps, check_mask, check_shape
from xlstm_model.cells.mlstm_gates import denominator_floor
from xlstm_model.cells.mlstm_op import mlstm_chunkwise_op
from xlstm_model.cells.mlstm_plain import chunkwise_plain
from xlstm_model.cells.states import MLSTMState, compute_dtype, empty_mlstm_state
from xlstm_model.kernels import mlstm as mlstm_kernels
from xlstm_model.native import steps
from xlstm_model.tracing import must_be_visible

CHUNK_SIZE = 64
"""Positions per chunk: about where the cost within chunks equals that of the states between."""


def mlstm_chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    igate_preact: Tensor,
    fgate_preact: Tensor,
    *,
    chunk_size: int = CHUNK_SIZE,
    state: MLSTMState | None = None,
    mask: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, MLSTMState]:
    """Whole sequence, in chunks of matrix products: cost and memory are linear in its length.

    The chunkwise form of Beck et al. 2024 (appendix) and of linear attention: within a chunk all
    pairs of positions at once, between chunks the state.

    Args:
        q: Queries (B, NH, S, DHQK), any strides, S ≥ 1.
        k: Keys (B, NH, S, DHQK), divided by √DHQK here.
        v: Values (B, NH, S, DHV).
        igate_preact: Logarithm of the input gate (B, NH, S), any finite number.
        fgate_preact: Forget gate before the sigmoid (B, NH, S), any finite number.
        chunk_size: Most positions in a chunk, at least 1; chunks are made equally long. Kernels for
            GPUs choose their own.
        state: What an earlier call returned; empty when absent.
        mask: Bool (B, S), True = real; all real when absent. A padded position, wherever it stands
            and whatever it holds, leaves the state as it was, and its output is 0.
        eps: Added to the denominator after stabilising, as the authors' package does with 1e-6. The
            result then depends on where the stabiliser started; 0 is exact.

    Returns:
        h (B, NH, S, DHV) in the dtype of v, laid out in memory as (B, S, NH, DHV), and the state
        after the last real position of each sample.

    Raises:
        ValueError: If a shape, the chunk size or eps is out of range.
        TypeError: If the mask is not bool.

    >>> q = k = v = torch.ones(1, 1, 3, 1)
    >>> gates = torch.zeros(1, 1, 3)
    >>> h, state = mlstm_chunkwise(q, k, v, gates, gates)
    >>> h.flatten(), state.c.shape
    (tensor([1., 1., 1.]), torch.Size([1, 1, 1, 1]))
    """
    B, _, S, _ = _check(q, k, v, igate_preact, fgate_preact, state)
    check_mask(mask, B, S)
    check_eps(eps)
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected at least 1, for example 64.")
    visible = must_be_visible()
    gates = (igate_preact, fgate_preact)
    if not visible and mlstm_kernels.fits(q, k, v, gates, eps):
        h, *end = mlstm_kernels.mlstm(q, k, v, *gates, state, mask)
        return h, MLSTMState(*end)
    run = _in_plain_operations if visible else _as_one_operation
    return run(q, k, v, *log_gates(*gates, mask), state, mask, eps, -(-S // chunk_size))


def _in_plain_operations(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    state: MLSTMState | None,
    mask: Tensor | None,
    eps: float,
    num_chunks: int,
) -> tuple[Tensor, MLSTMState]:
    """For exporters and transforms, which have to see every operation."""
    if state is None:
        sizes, dtype = (*q.shape[:2], q.shape[-1], v.shape[-1]), compute_dtype(q.dtype)
        state = empty_mlstm_state(*sizes, device=q.device, dtype=dtype)
    h, *end = chunkwise_plain(q, k, v, log_i, log_f, state, mask, eps, num_chunks)
    return h, MLSTMState(*end)


def _as_one_operation(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    state: MLSTMState | None,
    mask: Tensor | None,
    eps: float,
    num_chunks: int,
) -> tuple[Tensor, MLSTMState]:
    """As one operator of PyTorch, which has a gradient of its own."""
    B, NH = q.shape[:2]
    dtype = compute_dtype(q.dtype)
    start = (None, None, q.new_full((B, NH), -math.inf, dtype=dtype)) if state is None else state
    c, n, h, *_, m = mlstm_chunkwise_op(q, k, v, log_i, log_f, *start, mask, eps, num_chunks)
    return h, MLSTMState(c, n, m)


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
    """Whole sequence as one chunk: all pairs of positions at once, at a cost of S².

    Beck et al. 2024, appendix, "parallel mLSTM backward pass". Arguments, results and errors are
    those of ``mlstm_chunkwise``.

    >>> q = k = v = torch.ones(1, 1, 3, 1)
    >>> gates = torch.zeros(1, 1, 3)
    >>> mlstm_parallel(q, k, v, gates, gates)[0].flatten()
    tensor([1., 1., 1.])
    """
    return mlstm_chunkwise(
        q,
        k,
        v,
        igate_preact,
        fgate_preact,
        state=state,
        mask=mask,
        eps=eps,
        chunk_size=max(q.shape[-2], 1),
    )


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
    """One position. Pure, differentiable, cost independent of what came before.

    Args:
        q: Query (B, NH, DHQK).
        k: Key (B, NH, DHQK), divided by √DHQK here.
        v: Value (B, NH, DHV).
        igate_preact: Logarithm of the input gate (B, NH).
        fgate_preact: Forget gate before the sigmoid (B, NH).
        state: State before the position; not changed.
        eps: As in ``mlstm_chunkwise``.

    Returns:
        h (B, NH, DHV) in the dtype of v, and the state after the position.

    Raises:
        ValueError: If a shape does not fit or eps is negative.

    >>> q = k = v = torch.ones(1, 1, 1)
    >>> gate = torch.zeros(1, 1)
    >>> h, state = mlstm_step(q, k, v, gate, gate, empty_mlstm_state(1, 1, 1, 1))
    >>> h.item(), state.m.item()
    (1.0, 0.0)
    """
    _check(q, k, v, igate_preact, fgate_preact, state)
    check_eps(eps)
    if steps.fits(q, k, v, igate_preact, fgate_preact, *state):
        h, *after = steps.mlstm_step((q, k, v, igate_preact, fgate_preact), state, eps)
        return h, MLSTMState(*after)
    dtype, out_dtype = compute_dtype(q.dtype), v.dtype
    q, k, v = q.to(dtype), k.to(dtype) / math.sqrt(q.shape[-1]), v.to(dtype)
    log_i, log_f = igate_preact.to(dtype), F.logsigmoid(fgate_preact.to(dtype))
    carried = log_f + state.m
    m = torch.maximum(carried, log_i)
    keep, write = (carried - m).exp().unsqueeze(-1), (log_i - m).exp().unsqueeze(-1)
    written = write * k
    c = keep.unsqueeze(-1) * state.c + written.unsqueeze(-1) * v.unsqueeze(-2)
    n = keep * state.n + written
    numerator = (q.unsqueeze(-1) * c).sum(-2)
    # Without eps the output does not depend on the stabiliser: floor and sums shrink together.
    denominator = torch.maximum((q * n).sum(-1).abs(), denominator_floor(m)) + eps
    return (numerator / denominator.unsqueeze(-1)).to(out_dtype), MLSTMState(c, n, m)


def log_gates(
    igate_preact: Tensor, fgate_preact: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logarithms of both gates in float64: -inf and 0 at padding, where nothing happens."""
    log_i, fgate = igate_preact.double(), fgate_preact.double()
    if mask is None:
        return log_i, F.logsigmoid(fgate)
    real = mask.unsqueeze(1)
    # Selected before and after: a NaN in the padding would pass through the sigmoid's gradient.
    log_f = F.logsigmoid(torch.where(real, fgate, 0.0))
    return torch.where(real, log_i, -math.inf), torch.where(real, log_f, 0.0)


def _check(
    q: Tensor, k: Tensor, v: Tensor, igate: Tensor, fgate: Tensor, state: MLSTMState | None
) -> torch.Size:
    lead = tuple(q.shape[:-1])
    names = "(B, NH, S" if len(lead) == 3 else "(B, NH"
    if len(lead) != 2 + (igate.dim() == 3) or 0 in q.shape[1:]:
        raise ValueError(
            f"q has shape {tuple(q.shape)}; expected (B, NH, S, DHQK) for a sequence or "
            "(B, NH, DHQK) for a step, with no empty dimension but B. Reshape it."
        )
    check_shape("k", k, tuple(q.shape), f"{names}, DHQK), the shape of q")
    check_shape("v", v, (*lead, v.shape[-1]), f"{names}, DHV)")
    check_shape("igate_preact", igate, lead, f"{names})")
    check_shape("fgate_preact", fgate, lead, f"{names})")
    if state is not None:
        B, NH = lead[:2]
        check_shape("state.c", state.c, (B, NH, q.shape[-1], v.shape[-1]), "(B, NH, DHQK, DHV)")
        check_shape("state.n", state.n, (B, NH, q.shape[-1]), "(B, NH, DHQK)")
        check_shape("state.m", state.m, (B, NH), "(B, NH)")
    return q.shape
