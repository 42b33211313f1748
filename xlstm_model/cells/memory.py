"""The two tensors an mLSTM remembers in, apart from their scale."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Memory(NamedTuple):
    """Matrix memory and normaliser, or their gradients, both divided by exp(m)."""

    c: Tensor
    """(..., DHQK, DHV)."""
    n: Tensor
    """(..., DHQK)."""
