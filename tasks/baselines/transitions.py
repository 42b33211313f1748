"""First-order transitions: what most often came next after the last item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from tasks.baselines.contract import check_histories, check_sequences
from tasks.baselines.item_pairs import count_pairs, last_items, smoothed_popularity
from tasks.baselines.model_files import read_model_files, write_model_files


@dataclass(frozen=True)
class TransitionRecommender:
    """P(j | last item i) with a Dirichlet prior at the popularity of j.

    The score is (n_ij + smoothing * p_j) / (n_i + smoothing), where n_ij counts direct
    transitions in training sequences, n_i their sum over j, and p_j = (events of j + 1) /
    (events + items). With a smoothing of about 1 event this is back-off: observed transitions
    first, in order of their counts, ties and everything never seen after i in order of popularity.
    A user without history gets p_j itself.

    Attributes:
        table: CSR (V, V) float32, n_ij.
        popularity: float64 (V,), p_j; entry 0 is 0.
        smoothing: weight of the prior, in events per last item; above 0.
    """

    table: sparse.csr_matrix
    popularity: np.ndarray
    smoothing: float
    name: ClassVar[str] = "transitions"

    @property
    def num_items(self) -> int:
        """Real items in the vocabulary."""
        return len(self.popularity) - 1

    @classmethod
    def fit(
        cls,
        items: np.ndarray,
        offsets: np.ndarray,
        num_items: int,
        *,
        seed: int = 0,
        smoothing: float = 1.0,
    ) -> Self:
        """Count direct transitions inside training sequences.

        Args:
            items: int (N,), training events, ids in 1..num_items.
            offsets: int64 (U + 1,), where each user's sequence starts and ends.
            num_items: size of the vocabulary.
            seed: accepted like every model's; counting draws nothing.
            smoothing: weight of the popularity prior, in events; above 0.

        Raises:
            ValueError: smoothing is not above 0.
        """
        check_sequences(items, offsets, num_items)
        if smoothing <= 0:
            raise ValueError(
                f"smoothing is {smoothing}; expected above 0, or items never seen after the last "
                "one would all tie. Set train.transitions.smoothing in params.yaml."
            )
        table = count_pairs(items, offsets, num_items, window=1)
        return cls(table, smoothed_popularity(items, num_items), float(smoothing))

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Return probabilities of the next item (B, V); see `Recommender.score`."""
        ids, sizes = check_histories(item_ids, lengths, self.num_items)
        rows = self.table[last_items(ids, sizes, 1)]  # (B, V); row 0 is empty: popularity alone
        prior = self.smoothing * self.popularity
        scores = rows.toarray().astype(np.float64) + prior
        scores /= np.asarray(rows.sum(axis=1)) + self.smoothing
        scores[:, 0] = -np.inf
        return torch.from_numpy(scores.astype(np.float32)).to(item_ids.device)

    def save(self, folder: Path) -> None:
        """Write the model; see `Recommender.save`."""
        fields = {"num_items": self.num_items, "smoothing": self.smoothing}
        arrays = {
            "indptr": self.table.indptr,
            "indices": self.table.indices,
            "counts": self.table.data,
            "popularity": self.popularity,
        }
        write_model_files(folder, self.name, fields, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the model; see `Recommender.load`."""
        fields, arrays = read_model_files(folder, cls.name)
        width = fields["num_items"] + 1
        parts = (arrays["counts"], arrays["indices"], arrays["indptr"])
        table = sparse.csr_matrix(parts, shape=(width, width))
        return cls(table, arrays["popularity"], fields["smoothing"])
