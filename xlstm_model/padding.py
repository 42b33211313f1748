"""Masks of padded batches."""

from __future__ import annotations

import torch
from torch import Tensor

PADDING_ID = 0
"""Item or token id that stands where there is none."""


def lengths_to_mask(lengths: Tensor, seq_len: int) -> Tensor:
    """Mask of right-padded samples.

    Args:
        lengths: int64 (B,), real positions per sample, 0..seq_len.
        seq_len: S.

    Returns:
        Bool (B, S), True where real.

    >>> lengths_to_mask(torch.tensor([2, 0]), 3)
    tensor([[ True,  True, False],
            [False, False, False]])
    """
    return torch.arange(seq_len, device=lengths.device) < lengths[:, None]
