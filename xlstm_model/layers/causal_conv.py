"""Depthwise convolution over time that sees only the present and the past."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalConv1d(nn.Module):
    """Depthwise causal convolution, ``y_t = b + Σ_j w_j · x_{t - (k - 1) + j}``, per channel.

    The weight is stored as (channels, 1, kernel_size), the layout of the authors' checkpoints; its
    last tap is the current position. The state is the last ``kernel_size - 1`` real inputs,
    (B, kernel_size - 1, C), zeros before the first; kernel size 1 has an empty state.

    With a mask, padded positions are as if they were not there: a position is convolved with the
    real positions before it, wherever they stand, so left, right or scattered padding give the
    result of the sequence without padding.

    Args:
        channels: Number of channels C, at least 1.
        kernel_size: Number of taps, at least 1.
        bias: Whether to add a bias of shape (channels,).

    Raises:
        ValueError: If ``channels`` or ``kernel_size`` is below 1.

    >>> conv = CausalConv1d(2, kernel_size=3)
    >>> y, state = conv(torch.zeros(1, 5, 2))
    >>> y.shape, state.shape
    (torch.Size([1, 5, 2]), torch.Size([1, 2, 2]))
    """

    def __init__(self, channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels is {channels}; expected at least 1.")
        if kernel_size < 1:
            raise ValueError(
                f"kernel_size is {kernel_size}; expected at least 1 (1 sees only the present). "
                "Leave the convolution out of the block to have none."
            )
        self.channels = channels
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly within ±1/√kernel_size, as ``nn.Conv1d`` does."""
        bound = 1 / math.sqrt(self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Zeros (batch_size, kernel_size - 1, channels)."""
        return torch.zeros(
            batch_size,
            self.kernel_size - 1,
            self.channels,
            device=device or self.weight.device,
            dtype=dtype or self.weight.dtype,
        )

    def forward(
        self, x: Tensor, mask: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Convolve a whole sequence.

        Args:
            x: (B, S, C).
            mask: Bool (B, S), True = real. A masked position gives 0 and influences nothing.
            state: (B, kernel_size - 1, C) from an earlier call; zeros where absent.

        Returns:
            Output (B, S, C) and the state after the last real position of each sample.
        """
        start = state
        if start is None:
            start = self.initial_state(x.shape[0], device=x.device, dtype=x.dtype)
        if mask is None:
            return self._convolve(x, start), self.next_state(x, None, state)
        # Real positions move to the front in order, are convolved there and move back.
        order = torch.argsort(~mask, dim=1, stable=True)
        packed = torch.where(mask.unsqueeze(-1), x, 0.0).gather(1, _wide(order, self.channels))
        y = self._convolve(packed, start)
        rank = (mask.cumsum(1) - 1).clamp(min=0)
        y = torch.where(mask.unsqueeze(-1), y.gather(1, _wide(rank, self.channels)), 0.0)
        return y, self.next_state(x, mask, state)

    def next_state(
        self, x: Tensor, mask: Tensor | None = None, state: Tensor | None = None
    ) -> Tensor:
        """State after a sequence: the last ``kernel_size - 1`` real inputs, oldest first.

        Args:
            x: (B, S, C).
            mask: Bool (B, S), True = real.
            state: State before the sequence, zeros where absent.

        Returns:
            (B, kernel_size - 1, C).
        """
        wanted = self.kernel_size - 1
        if state is None:
            state = self.initial_state(x.shape[0], device=x.device, dtype=x.dtype)
        if mask is None:
            return torch.cat([state, x[:, -wanted:]], dim=1)[:, -wanted:] if wanted else state
        # Numbers of the last real positions; those missing count back into the state.
        position = torch.arange(x.shape[1], device=x.device)
        newest = torch.where(mask, position, -1).topk(min(wanted, x.shape[1]), dim=1).values
        newest = F.pad(newest, (0, wanted - newest.shape[1]), value=-1)
        is_missing = newest < 0
        oldest_left = (wanted - is_missing.cumsum(1)).clamp(max=max(wanted - 1, 0))
        rows = x.gather(1, _wide(newest.clamp(min=0), self.channels))
        kept = state.gather(1, _wide(oldest_left, self.channels))
        return torch.where(is_missing.unsqueeze(-1), kept, rows).flip(1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve one position.

        Args:
            x: (B, C).
            state: (B, kernel_size - 1, C); not changed.

        Returns:
            Output (B, C) and the next state.
        """
        window = torch.cat([state, x.unsqueeze(1)], dim=1)  # (B, k, C)
        y = (window * self.weight.squeeze(1).t()).sum(1)
        return (y if self.bias is None else y + self.bias), window[:, 1:]

    def _convolve(self, x: Tensor, state: Tensor) -> Tensor:
        history = torch.cat([state, x], dim=1)  # (B, k - 1 + S, C)
        y = F.conv1d(history.transpose(1, 2), self.weight, self.bias, groups=self.channels)
        return y.transpose(1, 2)

    def extra_repr(self) -> str:
        """Sizes, for ``print(module)``."""
        return f"channels={self.channels}, kernel_size={self.kernel_size}"


def _wide(index: Tensor, channels: int) -> Tensor:
    return index.unsqueeze(-1).expand(-1, -1, channels)
