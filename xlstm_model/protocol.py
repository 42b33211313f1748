"""What a sequence model is: the three methods every core of a recommender offers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class SequenceModel(Protocol):
    """A causal map from a sequence of vectors to a sequence of vectors, with explicit state.

    Implemented by ``XLSTMStack`` and every block, and by recurrent and attention cores that want
    to sit inside ``SequenceRecommender``. A state is a tensor or a nested tuple of tensors, each
    with the batch as its first dimension, so that ``xlstm_model.state`` can reorder, reset, move
    and save it. No method keeps anything between calls, and none changes the state it is given.

    >>> from xlstm_model import XLSTMStack
    >>> isinstance(XLSTMStack(8, "ms", num_heads=2), SequenceModel)
    True
    """

    embedding_dim: int
    """Width D of inputs and outputs."""

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, Any]:
        """Map a whole sequence.

        Args:
            x: Inputs (B, S, D), S ≥ 1.
            mask: Bool (B, S), True where the position is real; all real when absent. Padding may
                stand left or right; whatever it holds never reaches a real output or the state.
            state: What an earlier call returned; the model's initial state when absent.

        Returns:
            Outputs (B, S, D), zero at padding, and the state after the last real position of each
            sample.
        """
        ...

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Map one position (B, D); returns the output (B, D) and the state after it."""
        ...

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """State before the first position; device and dtype default to the parameters'."""
        ...
