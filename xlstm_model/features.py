"""What is added to an item's embedding: where it stands in the history, and how long after."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from xlstm_model.blocks.checks import check_at_least, check_choice
from xlstm_model.initialization import init_embedding

PositionKind = Literal["none", "learned", "sinusoidal"]
"""No position feature, a learned table, or fixed sinusoids (Vaswani et al. 2017, section 3.5)."""

MICROSECONDS_PER_SECOND = 1_000_000

GAP_BUCKETS = 40
"""Gaps of 2^38 seconds and more (8,700 years) share the last bucket."""

FIRST_EVENT_BUCKET = GAP_BUCKETS
"""Row of the first event of a history, which has no gap."""

SINUSOID_BASE = 10_000.0
"""Longest wavelength of the sinusoids over 2π, in positions."""


def gap_buckets(gaps: Tensor) -> Tensor:
    """Number the time gaps on a doubling scale: 0 s, 1 s, 2 to 3 s, 4 to 7 s, ...

    Args:
        gaps: int64, in microseconds; negative ones (events out of order) count as 0.

    Returns:
        int64 of the same shape, 0..39.

    >>> gap_buckets(torch.tensor([0, 999_999, 1_000_000, 3_000_000, 86_400_000_000])).tolist()
    [0, 0, 1, 2, 17]
    """
    seconds = gaps.clamp(min=0) // MICROSECONDS_PER_SECOND
    return torch.frexp(seconds.double()).exponent.long().clamp(max=GAP_BUCKETS - 1)


class TimeGapEmbedding(nn.Module):
    """A learned vector for the time since the previous event, in doubling buckets.

    Args:
        embedding_dim: Width D.

    >>> TimeGapEmbedding(4)(torch.tensor([[0, 5_000_000]]), torch.tensor([[True, False]])).shape
    torch.Size([1, 2, 4])
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(GAP_BUCKETS + 1, embedding_dim)
        init_embedding(self.table.weight)

    def forward(self, gaps: Tensor, is_first: Tensor) -> Tensor:
        """Map gaps (...) in microseconds to (..., D).

        Args:
            gaps: int64 time since the previous event; ignored where ``is_first``.
            is_first: Bool (...), True for the first event of a history.
        """
        return self.table(torch.where(is_first, FIRST_EVENT_BUCKET, gap_buckets(gaps)))


class PositionEmbedding(nn.Module):
    """A vector for the place in the history, 0 for its first event.

    Args:
        embedding_dim: Width D.
        kind: ``learned`` or ``sinusoidal``.
        max_positions: Rows of the learned table, ≥ 1; later positions share the last row.

    Raises:
        ValueError: If a size or the kind is out of range.

    >>> PositionEmbedding(4, "sinusoidal", 1)(torch.tensor([0])).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """

    def __init__(
        self, embedding_dim: int, kind: Literal["learned", "sinusoidal"], max_positions: int
    ) -> None:
        super().__init__()
        check_choice("positions", kind, ("learned", "sinusoidal"))
        check_at_least(1, max_positions=max_positions)
        self.embedding_dim = embedding_dim
        self.max_positions = max_positions
        self.table = nn.Embedding(max_positions, embedding_dim) if kind == "learned" else None
        if self.table is not None:
            init_embedding(self.table.weight)
        else:
            half = torch.arange((embedding_dim + 1) // 2)
            frequency = torch.exp(half * (-2 * math.log(SINUSOID_BASE) / embedding_dim))
            self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Map int64 positions (...), ≥ 0, to (..., D)."""
        if self.table is not None:
            return self.table(positions.clamp(max=self.max_positions - 1))
        angle = positions[..., None] * self.frequency
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return waves[..., : self.embedding_dim]


def previous_times(times: Tensor, mask: Tensor, last_time: Tensor) -> Tensor:
    """Time of the newest real event before each position, and after the last: (B, S + 1).

    Args:
        times: int64 (B, S) in microseconds.
        mask: Bool (B, S), True where real.
        last_time: int64 (B,), time of the newest event before the first position.
    """
    padded = torch.cat([last_time[:, None], times], dim=1)
    place = torch.arange(1, padded.shape[1], device=times.device)
    newest = torch.where(mask, place, 0).cummax(1).values
    newest = torch.cat([torch.zeros_like(newest[:, :1]), newest], dim=1)
    return padded.gather(1, newest)


def given_times(times: Tensor | None) -> Tensor:
    """The times a model with time gaps cannot do without.

    Raises:
        ValueError: If they are absent.

    >>> given_times(None)
    Traceback (most recent call last):
    ...
    ValueError: times is absent with time_gaps on; expected int64 microseconds...
    """
    if times is None:
        raise ValueError(
            "times is absent with time_gaps on; expected int64 microseconds of item_ids' "
            "shape. Pass times, or build the model with time_gaps=False."
        )
    return times
