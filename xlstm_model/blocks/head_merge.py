"""From the heads of a cell back to one vector per position."""

from __future__ import annotations

from torch import Tensor, nn

from xlstm_model.layers import HeadwiseNorm


class HeadMerge(nn.Module):
    """Normalise each head on its own and lay the heads side by side.

    A head of size 1 has no spread to normalise by, its LayerNorm is 0 whatever the cell says;
    heads of size 1 are therefore normalised together, as one group.

    Args:
        num_heads: NH ≥ 1.
        head_dim: DH ≥ 1.
        norm: False only lays the heads side by side.
        eps: Added to the variance, > 0.

    >>> import torch
    >>> HeadMerge(4, 1)(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])).detach().round(decimals=2)
    tensor([[-1.3400, -0.4500,  0.4500,  1.3400]])
    """

    def __init__(
        self, num_heads: int, head_dim: int, *, norm: bool = True, eps: float = 1e-5
    ) -> None:
        super().__init__()
        groups = 1 if head_dim == 1 else num_heads
        self.groups, self.eps = groups, eps
        self.norm = HeadwiseNorm(groups, num_heads * head_dim // groups, eps=eps) if norm else None

    def forward(self, h: Tensor) -> Tensor:
        """Map (..., NH, DH) to (..., NH · DH)."""
        merged = h.flatten(-2)
        return merged if self.norm is None else self.norm(merged.unflatten(-1, (self.groups, -1)))
