"""Popularity: every user is offered the items with the most training events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from tasks.baselines.contract import check_histories, check_sequences
from tasks.baselines.model_files import read_model_files, write_model_files


@dataclass(frozen=True)
class PopularityRecommender:
    """Scores an item by its number of training events, whatever the history.

    Attributes:
        counts: float32 (V,), training events per item; entry 0 is 0.

    Example:
        >>> model = PopularityRecommender.fit(np.array([1, 2, 2]), np.array([0, 3]), num_items=3)
        >>> model.score(torch.tensor([[1]]), torch.tensor([1])).tolist()
        [[-inf, 1.0, 2.0, 0.0]]
    """

    counts: np.ndarray
    name: ClassVar[str] = "popularity"

    @property
    def num_items(self) -> int:
        """Real items in the vocabulary."""
        return len(self.counts) - 1

    @classmethod
    def fit(cls, items: np.ndarray, offsets: np.ndarray, num_items: int, *, seed: int = 0) -> Self:
        """Count the training events of every item.

        Args:
            items: int (N,), training events, ids in 1..num_items.
            offsets: int64 (U + 1,), where each user's sequence starts and ends.
            num_items: size of the vocabulary.
            seed: accepted like every model's; counting draws nothing.
        """
        check_sequences(items, offsets, num_items)
        return cls(np.bincount(items, minlength=num_items + 1).astype(np.float32))

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Return the same scores (B, V) for every history; see `Recommender.score`."""
        check_histories(item_ids, lengths, self.num_items)
        scores = torch.from_numpy(self.counts).repeat(item_ids.shape[0], 1)
        scores[:, 0] = -torch.inf
        return scores.to(item_ids.device)

    def save(self, folder: Path) -> None:
        """Write the model; see `Recommender.save`."""
        write_model_files(folder, self.name, {"num_items": self.num_items}, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the model; see `Recommender.load`."""
        _, arrays = read_model_files(folder, cls.name)
        return cls(arrays["counts"])
