"""Norms over features, whose weight is stored as the difference of the scale from 1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.kernels import rows

NormKind = Literal["layer", "rms"]


class FeatureNorm(nn.Module):
    """LayerNorm or RMSNorm of the last dimension, scaled by ``1 + weight``.

    The weight is stored as the authors' checkpoints do, as the scale minus 1 and starting at 0, so
    that weight decay pulls the scale to 1 and not to 0. There is no bias.

    Args:
        features: Width D, at least 1.
        kind: ``"layer"`` subtracts the mean and divides by the standard deviation, ``"rms"``
            divides by the root mean square.
        eps: Added to the variance or mean square, above 0.
        for_product: Whether a matrix product reads the result next: under autocast, which would
            convert it then, a GPU's kernels write its dtype at once.

    Raises:
        ValueError: If a size, the kind or eps is out of range.

    >>> FeatureNorm(4, kind="rms")(torch.full((1, 4), 3.0)).detach().round(decimals=4)
    tensor([[1., 1., 1., 1.]])
    """

    for_product = False  # of modules pickled before there was a choice

    def __init__(
        self,
        features: int,
        kind: NormKind = "layer",
        eps: float = 1e-5,
        *,
        for_product: bool = False,
    ) -> None:
        super().__init__()
        _check(features, kind, eps)
        self.for_product = for_product
        self.kind: NormKind = kind
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., D), each position on its own."""
        if x.shape[-1:] == self.weight.shape and rows.fits(len(self.weight), x, self.weight):
            return rows.normalize(
                x,
                self.weight,
                1,
                center=self.kind == "layer",
                eps=self.eps,
                for_product=self.for_product,
            )
        return _normalize(x, 1 + self.weight, self.kind, self.eps)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"{self.weight.numel()}, kind={self.kind!r}, eps={self.eps}"


class HeadwiseNorm(nn.Module):
    """Norm of each head of each position on its own, then a scale ``1 + weight`` per feature.

    The group norm after both cells in Beck et al. 2024 (figures 10 and 11), with one group per
    head: statistics never mix heads, positions or samples. A head of size 1 gives 0 with
    ``kind="layer"``, as its one value is its mean.

    Args:
        num_heads: NH, at least 1.
        head_dim: DH, at least 1.
        kind: ``"layer"`` or ``"rms"``, see ``FeatureNorm``.
        eps: Added to the variance or mean square, above 0.

    Raises:
        ValueError: If a size, the kind or eps is out of range.

    >>> norm = HeadwiseNorm(num_heads=2, head_dim=4)
    >>> norm(torch.randn(3, 5, 2, 4)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self, num_heads: int, head_dim: int, kind: NormKind = "layer", eps: float = 1e-5
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads is {num_heads}; expected at least 1.")
        _check(head_dim, kind, eps)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.kind: NormKind = kind
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(num_heads * head_dim))

    def forward(self, h: Tensor) -> Tensor:
        """Normalise (..., NH, DH) and lay the heads side by side: (..., NH · DH)."""
        is_even = h.shape[-2:] == (self.num_heads, self.head_dim)
        if is_even and rows.fits(self.head_dim, h, self.weight):
            is_centered = self.kind == "layer"
            return rows.normalize(
                h.flatten(-2), self.weight, self.num_heads, center=is_centered, eps=self.eps
            )
        normalized = _normalize(h, None, self.kind, self.eps)
        return normalized.flatten(-2) * (1 + self.weight)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"num_heads={self.num_heads}, head_dim={self.head_dim}, kind={self.kind!r}"


def _normalize(x: Tensor, scale: Tensor | None, kind: NormKind, eps: float) -> Tensor:
    shape = (x.shape[-1],)
    if kind == "layer":
        return F.layer_norm(x, shape, scale, None, eps)
    return F.rms_norm(x, shape, scale, eps)


def _check(features: int, kind: str, eps: float) -> None:
    if features < 1:
        raise ValueError(f"the width to normalise is {features}; expected at least 1.")
    if kind not in ("layer", "rms"):
        raise ValueError(f"kind is {kind!r}; expected 'layer' or 'rms'.")
    if not eps > 0:
        raise ValueError(f"eps is {eps}; expected a number above 0, for example 1e-5.")
