"""From one vector per position to one per history."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from xlstm_model.blocks.checks import check_choice

PoolingKind = Literal["last", "mean", "attention"]
"""The last real position, the mean of the real ones, or a learned weighting of them."""


class PoolingState(NamedTuple):
    """What has been pooled so far, per sample; empty is zeros with m = −∞.

    A running softmax: the pooled vector is ``c / n``, and ``exp(m)`` has been taken out of both.
    """

    c: Tensor
    """Weighted sum (B, D)."""
    n: Tensor
    """Sum of weights (B,)."""
    m: Tensor
    """Largest score so far (B,), −∞ when empty."""


class Pooling(nn.Module):
    """Pool the real positions of each sample, in one call or piece by piece.

    ``mean`` gives every position the score 0, ``attention`` the score ``w · h``; the weights are
    the softmax of the scores over all positions so far. ``last`` keeps the newest. No position, as
    for an empty history, pools to zero.

    Args:
        kind: How to pool.
        embedding_dim: Width D.

    Raises:
        ValueError: For another kind.

    >>> pool = Pooling("mean", 1)
    >>> hidden = torch.tensor([[[1.0], [3.0], [99.0]]])
    >>> pooled, state = pool(hidden, torch.tensor([[True, True, False]]))
    >>> pooled
    tensor([[2.]])
    >>> pool(torch.tensor([[[5.0]]]), torch.tensor([[True]]), state)[0]
    tensor([[3.]])
    """

    def __init__(self, kind: PoolingKind, embedding_dim: int) -> None:
        super().__init__()
        check_choice("pooling", kind, ("last", "mean", "attention"))
        self.kind = kind
        self.embedding_dim = embedding_dim
        self.score = nn.Linear(embedding_dim, 1, bias=False) if kind == "attention" else None

    def initial_state(
        self, batch_size: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> PoolingState:
        """State before any position."""
        zeros = torch.zeros(batch_size, device=device, dtype=dtype)
        return PoolingState(
            zeros.unsqueeze(-1).expand(-1, self.embedding_dim),
            zeros,
            torch.full_like(zeros, float("-inf")),
        )

    def forward(
        self, hidden: Tensor, mask: Tensor, state: PoolingState | None = None
    ) -> tuple[Tensor, PoolingState]:
        """Pool (B, S, D) with bool mask (B, S), True where real, to (B, D).

        Args:
            hidden: Vectors; what stands at padding has no effect.
            mask: Which positions are real.
            state: What earlier calls pooled; nothing when absent.

        Returns:
            Pooled vectors (B, D) and the state after this piece.
        """
        if state is None:
            state = self.initial_state(hidden.shape[0], device=hidden.device, dtype=hidden.dtype)
        hidden = torch.where(mask[..., None], hidden, 0.0)
        if self.kind == "last":
            position = torch.arange(mask.shape[1], device=mask.device)
            last = torch.where(mask, position, -1).amax(1)
            newest = hidden.gather(
                1, last.clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[2])
            )
            found = last >= 0
            c = torch.where(found[:, None], newest.squeeze(1), state.c)
            return c, PoolingState(
                c, torch.where(found, 1.0, state.n), torch.where(found, 0.0, state.m)
            )
        scores = hidden[..., 0] * 0 if self.score is None else self.score(hidden).squeeze(-1)
        scores = torch.where(mask, scores, float("-inf"))
        m = torch.maximum(state.m, scores.detach().amax(1))
        scale = torch.where(m == float("-inf"), 0.0, m)
        kept, weight = (state.m - scale).exp(), (scores - scale[:, None]).exp()
        c = kept[:, None] * state.c + (weight[:, None] @ hidden).squeeze(1)
        n = kept * state.n + weight.sum(1)
        pooled = c / torch.where(n > 0, n, 1.0)[:, None]
        return pooled, PoolingState(c, n, m)
