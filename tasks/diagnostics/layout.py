"""How a module wants its histories: which side padding is on, which ids items have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tasks.diagnostics.subject import Batch


@dataclass(frozen=True)
class Layout:
    """Turns right-padded batches with items 1..num_items into a module's own form, and back.

    Attributes:
        num_items: Items in the catalogue.
        padding_side: Where the module wants padding.
        padding_id: Id the module takes for padding.
        first_item_id: Id the module has for the first item; the others follow.
    """

    num_items: int
    padding_side: Literal["right", "left"] = "right"
    padding_id: int = 0
    first_item_id: int = 1

    def __post_init__(self) -> None:
        """Refuse a padding id that is an item's."""
        items = range(self.first_item_id, self.first_item_id + self.num_items)
        if self.first_item_id < 0 or self.padding_id < 0 or self.padding_id in items:
            raise ValueError(
                f"padding_id is {self.padding_id} and first_item_id {self.first_item_id}, with "
                f"{self.num_items} items; expected a padding id outside the items' own ids."
            )

    @property
    def is_usual(self) -> bool:
        """Nothing has to be turned."""
        return (self.padding_side, self.padding_id, self.first_item_id) == ("right", 0, 1)

    def to_module(self, batch: Batch) -> Batch:
        """Return the batch as the module wants it; padding on the left is filled afresh.

        >>> ids = torch.tensor([[5, 3, 0]])
        >>> batch = Batch(ids, torch.zeros_like(ids), ids > 0)
        >>> Layout(9, "left", padding_id=9, first_item_id=0).to_module(batch).item_ids.tolist()
        [[9, 4, 2]]
        """
        if self.is_usual:
            return batch
        ids = torch.where(batch.item_ids > 0, batch.item_ids - 1 + self.first_item_id, 0)
        ids = torch.where(batch.item_ids > 0, ids, self.padding_id)
        if self.padding_side == "right":
            return batch.with_items(ids)
        order = _real_last(batch.mask)
        mask = batch.mask.gather(1, order)
        times = None if batch.times is None else batch.times.gather(1, order)
        return batch._replace(
            item_ids=torch.where(mask, ids.gather(1, order), self.padding_id),
            targets=batch.targets.gather(1, order),
            mask=mask,
            times=times,
        )

    def from_module(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return scores (B, S, V) of the module's positions at the batch's own ones."""
        if self.padding_side == "right" or scores.ndim == 2:
            return scores
        back = _real_last(batch.mask).argsort(dim=1)
        return scores.gather(1, back[..., None].expand(-1, -1, scores.shape[-1]))

    def columns(self, scores: Tensor) -> Tensor:
        """Return scores (..., num_items + 1), ours, of the module's columns; padding is -inf.

        A module with num_items columns has none for padding.
        """
        if scores.shape[-1] == self.num_items:
            items = scores
        elif self.first_item_id == 1 and self.padding_id == 0:
            return scores[..., : self.num_items + 1]
        else:
            items = scores[..., self.first_item_id : self.first_item_id + self.num_items]
        padding = scores.new_full((*scores.shape[:-1], 1), -torch.inf)
        return torch.cat([padding, items], dim=-1)


def _real_last(mask: Tensor) -> Tensor:
    """Return the order of positions that puts real events last, each in its own order."""
    return mask.long().argsort(dim=1, stable=True)
