"""Linear map whose matrix is block-diagonal: each group of features is mapped on its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDEST_DENSE = 1024
"""Widest map a GPU makes as one product with the whole matrix, zeros included: a hundredth of what
products of groups of 4 features take there."""


class BlockDiagonalLinear(nn.Module):
    """Map ``num_blocks`` groups of features independently, ``y_g = W_g x_g + b_g``.

    The weight is stored as (num_blocks, features_out / num_blocks, features_in / num_blocks), the
    layout of the authors' checkpoints. The q, k and v projections of the mLSTM block use groups of
    4 features, the gates of the sLSTM block one group per head (Beck et al. 2024, figures 10, 11).

    Args:
        features_in: Width of the input, a multiple of ``num_blocks``.
        features_out: Width of the output, a multiple of ``num_blocks``.
        num_blocks: Number of groups, at least 1.
        bias: Whether to add a bias of shape (features_out,).

    Raises:
        ValueError: If a width is not a positive multiple of ``num_blocks``.

    >>> layer = BlockDiagonalLinear(8, 4, num_blocks=4)
    >>> layer(torch.zeros(2, 3, 8)).shape, layer.weight.shape
    (torch.Size([2, 3, 4]), torch.Size([4, 1, 2]))
    """

    def __init__(
        self, features_in: int, features_out: int, num_blocks: int, bias: bool = True
    ) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks is {num_blocks}; expected at least 1.")
        for name, width in (("features_in", features_in), ("features_out", features_out)):
            if width < 1 or width % num_blocks:
                raise ValueError(
                    f"{name} is {width}; expected a positive multiple of num_blocks "
                    f"({num_blocks}). Change one of the two."
                )
        self.features_in = features_in
        self.features_out = features_out
        self.num_blocks = num_blocks
        self.weight = nn.Parameter(
            torch.empty(num_blocks, features_out // num_blocks, features_in // num_blocks)
        )
        self.bias = nn.Parameter(torch.empty(features_out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from N(0, 2 / (5 · group width)) (Nguyen and Salazar 2019), bias 0."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (5 * self.weight.shape[-1])))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., features_in) to (..., features_out)."""
        if x.is_cuda and max(self.features_in, self.features_out) <= WIDEST_DENSE:
            return F.linear(x, self.dense_weight(), self.bias)
        groups = x.reshape(-1, self.num_blocks, self.weight.shape[-1]).transpose(0, 1)
        y = torch.bmm(groups, self.weight.transpose(1, 2)).transpose(0, 1)
        y = y.reshape(*x.shape[:-1], self.features_out)
        return y if self.bias is None else y + self.bias

    def dense_weight(self) -> Tensor:
        """The whole matrix (features_out, features_in), zeros between the groups.

        >>> BlockDiagonalLinear(4, 2, num_blocks=2).dense_weight().count_nonzero()
        tensor(4)
        """
        G, out, into = self.weight.shape
        spread = self.weight.new_zeros(G, out, G, into)
        groups = self.weight.permute(1, 2, 0)
        spread = torch.diagonal_scatter(spread, groups, dim1=0, dim2=2)
        return spread.reshape(self.features_out, self.features_in)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return (
            f"features_in={self.features_in}, features_out={self.features_out}, "
            f"num_blocks={self.num_blocks}, bias={self.bias is not None}"
        )
