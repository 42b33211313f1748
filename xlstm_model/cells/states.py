"""States of the two cells: plain tuples of tensors, one entry per sample, explicit in and out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MLSTMState(NamedTuple):
    """What an mLSTM cell knows after some positions, per sample and head.

    The matrix memory and the normaliser are stored divided by ``exp(m)``, so that no gate can
    overflow them: the values of the unstabilised equations are ``c * exp(m)`` and ``n * exp(m)``.
    Empty memory is ``c = 0``, ``n = 0``, ``m = -inf``, so one sample can be reset and not another.

    >>> empty_mlstm_state(2, 3, 4, 5).n.shape
    torch.Size([2, 3, 4])
    """

    c: Tensor
    """Matrix memory (B, NH, DHQK, DHV)."""
    n: Tensor
    """Normaliser (B, NH, DHQK)."""
    m: Tensor
    """Logarithm of the scale taken out of c and n (B, NH), -inf when empty."""


class SLSTMState(NamedTuple):
    """What an sLSTM cell knows after some positions, per sample, head and unit.

    As in ``MLSTMState``, c and n are stored divided by ``exp(m)``. Empty memory is ``h = c = n =
    0``, ``m = -inf``.

    >>> empty_slstm_state(2, 3, 4).h.shape
    torch.Size([2, 3, 4])
    """

    h: Tensor
    """Output fed back into the gates (B, NH, DH)."""
    c: Tensor
    """Memory (B, NH, DH)."""
    n: Tensor
    """Normaliser (B, NH, DH)."""
    m: Tensor
    """Logarithm of the scale taken out of c and n (B, NH, DH), -inf when empty."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype in which a cell calculates and keeps its state: float32 for the half precisions.

    >>> compute_dtype(torch.bfloat16), compute_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def empty_mlstm_state(
    batch_size: int,
    num_heads: int,
    qk_dim: int,
    v_dim: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> MLSTMState:
    """State before the first position.

    Args:
        batch_size: B.
        num_heads: NH.
        qk_dim: Width DHQK of queries and keys of one head.
        v_dim: Width DHV of values of one head.
        device: Device of the tensors.
        dtype: Floating dtype of the inputs; half precisions give a float32 state.

    >>> empty_mlstm_state(2, 3, 4, 5).c.shape
    torch.Size([2, 3, 4, 5])
    """
    dtype = compute_dtype(dtype or torch.get_default_dtype())
    return MLSTMState(
        c=torch.zeros(batch_size, num_heads, qk_dim, v_dim, device=device, dtype=dtype),
        n=torch.zeros(batch_size, num_heads, qk_dim, device=device, dtype=dtype),
        m=torch.full((batch_size, num_heads), float("-inf"), device=device, dtype=dtype),
    )


def empty_slstm_state(
    batch_size: int,
    num_heads: int,
    head_dim: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> SLSTMState:
    """State before the first position.

    Args:
        batch_size: B.
        num_heads: NH.
        head_dim: DH.
        device: Device of the tensors.
        dtype: Floating dtype of the inputs; half precisions give a float32 state.

    >>> empty_slstm_state(2, 3, 4).m[0, 0]
    tensor([-inf, -inf, -inf, -inf])
    """
    dtype = compute_dtype(dtype or torch.get_default_dtype())
    shape = (batch_size, num_heads, head_dim)
    zeros = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(3)]
    return SLSTMState(*zeros, torch.full(shape, float("-inf"), device=device, dtype=dtype))
