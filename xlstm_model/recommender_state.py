"""State of the recommender: the sequence model's and what its features need."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class RecommenderState(NamedTuple):
    """Everything a recommender knows of a history so far, per sample.

    >>> import torch
    >>> from xlstm_model import SequenceRecommender, XLSTMStack
    >>> model = SequenceRecommender(5, XLSTMStack(8, "m", num_heads=2), 8)
    >>> _, state = model.encode(torch.tensor([[3, 1, 0], [2, 5, 4]]))
    >>> state.position
    tensor([2, 3])
    """

    sequence: Any
    """State of the sequence model."""
    position: Tensor
    """Events so far, int64 (B,)."""
    last_time: Tensor
    """Time of the newest event in microseconds, int64 (B,); 0 before the first."""
    pooling: Any
    """``PoolingState``, or an empty tuple where every position is given out."""
    recent: Any = ()
    """Last items, int64 (B, W), newest last; an empty tuple without a repeat bias."""
