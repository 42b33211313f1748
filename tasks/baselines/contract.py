"""The one contract every model keeps, and the input checks the count models share."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor


@runtime_checkable
class Recommender(Protocol):
    """A trained model, as evaluation, diagnosis and serving see it.

    Every model is deterministic under its seed, scores a history from that history alone (no
    other row of the batch, nothing after `lengths`), and gives equal scores after `save` and
    `load`.

    Attributes:
        name: key of the model in the settings, for example "xlstm".
        num_items: real items in the vocabulary; scores have num_items + 1 columns.
    """

    name: str
    num_items: int

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Score every item as the next event of each history.

        Args:
            item_ids: int64 (B, S), oldest first, right-padded; S may be 0.
            lengths: int64 (B,), real events per row, 0 for a user without history.
            times: int64 (B, S) microseconds since the epoch; read by models that use time.

        Returns:
            float32 (B, V); column 0 (padding) is -inf, nothing is NaN. Higher is better; scores
            of different rows or models are not comparable.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write model.json and model.safetensors into `folder`, created where missing."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


def check_sequences(items: np.ndarray, offsets: np.ndarray, num_items: int) -> None:
    """Refuse training sequences a count model can't be fitted on.

    Args:
        items: int (N,), ids in 1..num_items.
        offsets: int64 (U + 1,), from 0 to N; sequence u is items[offsets[u]:offsets[u + 1]].
        num_items: size of the vocabulary.

    Raises:
        ValueError: offsets do not span the items, ids are outside the vocabulary, or nothing is
            there.
    """
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(items):
        raise ValueError(
            f"offsets run from {offsets[:1]} to {offsets[-1:]} for {len(items)} items; expected "
            "0 to the number of items. Pass the arrays of one PackedSequences."
        )
    if len(items) == 0:
        raise ValueError("items are empty; expected at least one training event.")
    low, high = int(items.min()), int(items.max())
    if low < 1 or high > num_items:
        raise ValueError(
            f"item ids run from {low} to {high}; expected 1..{num_items} (0 is padding). "
            "Check that items and num_items come from the same prepared data."
        )


def check_histories(
    item_ids: Tensor, lengths: Tensor, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return histories as NumPy arrays with everything behind `lengths` set to padding.

    Args:
        item_ids: int64 (B, S), right-padded.
        lengths: int64 (B,) in 0..S.
        num_items: size of the vocabulary.

    Returns:
        (int64 (B, S), int64 (B,)); the first is a copy.

    Raises:
        ValueError: shapes differ, a length exceeds S, or a real event has an id outside
            1..num_items.
    """
    if item_ids.ndim != 2 or lengths.shape != item_ids.shape[:1]:
        raise ValueError(
            f"item_ids have shape {tuple(item_ids.shape)} and lengths {tuple(lengths.shape)}; "
            "expected (B, S) and (B,)."
        )
    ids, sizes = item_ids.cpu().numpy(), lengths.cpu().numpy()
    if sizes.size and (sizes.min() < 0 or sizes.max() > ids.shape[1]):
        raise ValueError(
            f"lengths run from {sizes.min()} to {sizes.max()}; expected 0..{ids.shape[1]}."
        )
    is_real = np.arange(ids.shape[1]) < sizes[:, None]
    known = (ids >= 1) & (ids <= num_items)
    if not known[is_real].all():
        wrong = int(ids[is_real & ~known][0])
        raise ValueError(
            f"item id {wrong} in a history; expected 1..{num_items}. "
            "The model was trained on another vocabulary, or the history is not right-padded."
        )
    return np.where(is_real, ids, 0), sizes
