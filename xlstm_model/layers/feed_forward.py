"""The gated feed-forward layer after an sLSTM cell and in the 7B-style block."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.kernels import feed_forward as kernels

Activation = Literal["gelu", "silu"]


def round_up(value: float, multiple: int) -> int:
    """Round a width up to a multiple.

    >>> round_up(83.2, 64), round_up(64, 64), round_up(3.0, 1)
    (128, 64, 3)
    """
    return math.ceil(value / multiple) * multiple


class GatedFeedForward(nn.Module):
    """``y = W_down (act(W_gate x) · W_up x)``, with gate and up in one matrix, gate first.

    GELU (erf form) and factor 1.3 are the sLSTM block's (the paper says 4/3, the authors' package
    1.3); SiLU and 2.667 the 7B block's (SwiGLU). The inner width is rounded up to ``multiple_of``.

    Args:
        features: Width D of input and output, at least 1.
        factor: Inner width as a multiple of D, above 0.
        activation: ``"gelu"`` or ``"silu"``.
        multiple_of: The inner width is rounded up to a multiple of this, at least 1.
        bias: Whether both maps have a bias.
        dropout: Probability of zeroing an output in training, 0 ≤ p < 1.

    Raises:
        ValueError: If an argument is out of range.

    >>> import torch
    >>> layer = GatedFeedForward(16)
    >>> layer.inner_features, layer(torch.zeros(2, 3, 16)).shape
    (64, torch.Size([2, 3, 16]))
    """

    def __init__(
        self,
        features: int,
        factor: float = 1.3,
        activation: Activation = "gelu",
        multiple_of: int = 64,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features is {features}; expected at least 1.")
        if not factor > 0:
            raise ValueError(f"factor is {factor}; expected a number above 0, for example 1.3.")
        if activation not in ("gelu", "silu"):
            raise ValueError(f"activation is {activation!r}; expected 'gelu' or 'silu'.")
        if multiple_of < 1:
            raise ValueError(f"multiple_of is {multiple_of}; expected at least 1.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 <= dropout < 1.")
        self.inner_features = round_up(factor * features, multiple_of)
        self.activation: Activation = activation
        self.proj_up = nn.Linear(features, 2 * self.inner_features, bias=bias)
        self.proj_down = nn.Linear(self.inner_features, features, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D), each position on its own."""
        projected = self.proj_up(x)
        if kernels.fits(projected):
            units = kernels.gated_units(projected, self.activation == "gelu")
            return self.dropout(self.proj_down(units))
        gate, up = projected.split(self.inner_features, dim=-1)
        gate = F.gelu(gate) if self.activation == "gelu" else F.silu(gate)
        return self.dropout(self.proj_down(gate * up))
