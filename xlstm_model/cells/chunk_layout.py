"""Cutting (B, NH, S, D) tensors into N chunks of L positions, one after another, and back.

The cut layout is (N, B · NH, L, D), contiguous, so that one chunk of all rows is one matrix batch
without a copy. Results go back into memory laid out as (B, S, NH, D), which is what the layers on
both sides of a cell read and write.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack(
    x: Tensor, padding: Tensor | None, num_chunks: int, length: int, dtype: torch.dtype
) -> Tensor:
    """Cut into chunks, with 0 at padding and beyond the end.

    Args:
        x: (B, NH, S, D), any strides, any content at padding.
        padding: What ``padding_rows`` returned, or None for none.
        num_chunks: N.
        length: L, with N · L ≥ S.
        dtype: Dtype of the result.

    Returns:
        Contiguous (N, B · NH, L, D).
    """
    B, NH, S, D = x.shape
    allocate = x.new_empty if num_chunks * length == S else x.new_zeros
    packed = allocate(num_chunks, B, NH, length, D, dtype=dtype)
    for target, part in zip(packed.unbind(0), x.split(length, dim=2), strict=True):
        target[:, :, : part.shape[2]].copy_(part)
    return blank(packed.view(num_chunks, B * NH, length, D), padding)


def blank(packed: Tensor, padding: Tensor | None) -> Tensor:
    """Set padding to 0 in place.

    Args:
        packed: Contiguous (N, B · NH, L) or (N, B · NH, L, D).
        padding: What ``padding_rows`` returned, or None for none.

    Returns:
        The same tensor.
    """
    if padding is None:
        return packed
    rows = packed.flatten(0, 2)
    if padding.dtype == torch.bool:
        rows.masked_fill_(padding.view(-1, *[1] * (rows.dim() - 1)), 0)
    else:
        rows.index_fill_(0, padding, 0)
    return packed


def padding_rows(
    mask: Tensor | None, num_heads: int, num_chunks: int, length: int
) -> Tensor | None:
    """Which rows of the cut layout are padding.

    Args:
        mask: Bool (B, S), True = real, or None.
        num_heads: NH.
        num_chunks: N.
        length: L.

    Returns:
        None without a mask. On the CPU row numbers int64 (P,), as filling few rows is faster than
        selecting among all; elsewhere bool (N · B · NH · L,), which needs no synchronisation.
    """
    if mask is None:
        return None
    is_padding = pack_gate(~mask.unsqueeze(1), False, num_chunks, length)
    is_padding = is_padding.unsqueeze(2).expand(-1, -1, num_heads, -1).flatten()
    return is_padding.nonzero().squeeze(1) if mask.device.type == "cpu" else is_padding


def pack_gate(gate: Tensor, fill: float | bool, num_chunks: int, length: int) -> Tensor:
    """Cut (B, NH, S) into (N, B · NH, L), with ``fill`` beyond the end."""
    B, NH, S = gate.shape
    padded = torch.nn.functional.pad(gate, (0, num_chunks * length - S), value=fill)
    return padded.reshape(B * NH, num_chunks, length).transpose(0, 1).contiguous()


def unpack_gate(packed: Tensor, num_heads: int, seq_len: int) -> Tensor:
    """Undo ``pack_gate``: (N, B · NH, L) to (B, NH, S)."""
    flat = packed.transpose(0, 1).flatten(1)[:, :seq_len]
    return flat.unflatten(0, (-1, num_heads))


def unpack(packed: Tensor, num_heads: int, seq_len: int, dtype: torch.dtype) -> Tensor:
    """Undo ``pack``: (N, B · NH, L, D) to (B, NH, S, D) with (B, S, NH, D) memory."""
    return _join(packed, None, num_heads, seq_len, dtype)


def unpack_quotient(
    numerator: Tensor, divisor: Tensor, num_heads: int, seq_len: int, dtype: torch.dtype
) -> Tensor:
    """``numerator / divisor`` in one pass with ``unpack``; divisor is (N, B · NH, L)."""
    return _join(numerator, divisor, num_heads, seq_len, dtype)


def _join(
    packed: Tensor, divisor: Tensor | None, num_heads: int, seq_len: int, dtype: torch.dtype
) -> Tensor:
    _, rows, length, width = packed.shape
    joined = packed.new_empty(rows // num_heads, seq_len, num_heads, width, dtype=dtype)
    parts = joined.transpose(1, 2).split(length, dim=2)
    for n, target in enumerate(parts):
        source = packed[n].view(-1, num_heads, length, width)[:, :, : target.shape[2]]
        if divisor is None:
            target.copy_(source)
        else:
            below = divisor[n].view(-1, num_heads, length, 1)[:, :, : target.shape[2]]
            torch.div(source, below, out=target)
    return joined.transpose(1, 2)
