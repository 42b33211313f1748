"""Padding for cores whose kernels know none: real positions first, padding behind them.

A causal core that reads real positions first can't be touched by what follows them, so right-padded
input needs no mask at all. Input padded elsewhere is moved there and back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RightPadded(NamedTuple):
    """A batch with its real positions first.

    Attributes:
        x: (B, S, D), real positions first, in their order.
        mask: (B, S) bool, True then False in every row; None when all positions are real.
        lengths: (B,) int64, real positions per row; None when all positions are real.
        origin: (B, S) int64, position each entry came from; None when nothing moved.
    """

    x: Tensor
    mask: Tensor | None
    lengths: Tensor | None
    origin: Tensor | None

    def restore(self, y: Tensor) -> Tensor:
        """Outputs (B, S, D) in the original order, zero at padding."""
        if self.mask is None:
            return y
        y = y.masked_fill(~self.mask[..., None], 0.0)
        if self.origin is None:
            return y
        return torch.empty_like(y).scatter(1, self.origin[..., None].expand_as(y), y)

    def last(self, y: Tensor, before: Tensor) -> Tensor:
        """The vector at each row's last real position; ``before`` (B, D) where a row has none."""
        if self.lengths is None:
            return y[:, -1]
        index = (self.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, y.shape[2])
        return torch.where(self.lengths[:, None] > 0, y.gather(1, index)[:, 0], before)


def right_padded(x: Tensor, mask: Tensor | None) -> RightPadded:
    """Brings the real positions of every row to its front.

    Args:
        x: (B, S, D).
        mask: (B, S) bool, True = real; None when all positions are real.

    Raises:
        ValueError: the mask is not bool of shape (B, S).

    >>> x = torch.tensor([[[0.0], [1.0], [2.0]]])
    >>> padded = right_padded(x, torch.tensor([[False, True, True]]))
    >>> padded.x[:, :2].flatten().tolist(), padded.restore(padded.x).flatten().tolist()
    ([1.0, 2.0], [0.0, 1.0, 2.0])
    """
    if mask is None:
        return RightPadded(x, None, None, None)
    if mask.dtype != torch.bool or mask.shape != x.shape[:2]:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of shape "
            f"{tuple(x.shape[:2])}, True where the position is real."
        )
    lengths = mask.sum(dim=1)
    # Asking a GPU whether anything has to move would stop it; moving costs less. An exported
    # program has one path for all masks.
    may_ask = x.device.type == "cpu" and not torch.compiler.is_compiling()
    if may_ask and not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return RightPadded(x.masked_fill(~mask[..., None], 0.0), mask, lengths, None)
    origin = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
    moved = mask.gather(1, origin)
    x = x.gather(1, origin[..., None].expand_as(x)).masked_fill(~moved[..., None], 0.0)
    return RightPadded(x, moved, lengths, origin)
