"""Changed inputs for influence tests: what is changed, and what is compared."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.diagnostics.subject import Batch


def other_items(item_ids: Tensor, num_items: int, seed: int) -> Tensor:
    """Return different real items at every position, int64 like `item_ids`; padding stays 0.

    With a single item in the catalogue there is no other one, and the ids come back unchanged.

    >>> changed = other_items(torch.tensor([[1, 2, 0]]), 5, seed=0)
    >>> bool((changed[0, :2] != torch.tensor([1, 2])).all()), changed[0, 2].item()
    (True, 0)
    """
    if num_items < 2:
        return item_ids
    generator = torch.Generator().manual_seed(seed)
    step = torch.randint(1, num_items, item_ids.shape, generator=generator).to(item_ids.device)
    moved = (item_ids - 1 + step) % num_items + 1
    return torch.where(item_ids > 0, moved, item_ids)


def change_after(batch: Batch, position: int, num_items: int, seed: int) -> Batch:
    """Return the batch with other items everywhere after `position`."""
    item_ids = batch.item_ids.clone()
    item_ids[:, position + 1 :] = other_items(item_ids[:, position + 1 :], num_items, seed)
    return batch.with_items(item_ids)


def change_rows(batch: Batch, rows: slice, num_items: int, seed: int) -> Batch:
    """Return the batch with other items in the chosen rows."""
    item_ids = batch.item_ids.clone()
    item_ids[rows] = other_items(item_ids[rows], num_items, seed)
    return batch.with_items(item_ids)


def spread(logits: Tensor, mask: Tensor) -> float:
    """Return the standard deviation of logits over real positions and items; the unit of change.

    Args:
        logits: (B, S, num_items).
        mask: bool (B, S).
    """
    return float(logits[mask].std(correction=0))


def largest_change(before: Tensor, after: Tensor, where: Tensor, unit: float) -> float:
    """Return the largest change of a logit at the chosen positions, in multiples of `unit`.

    Scores that do not vary at all (unit 0) can't show an influence: the change is then 0, or
    infinite where something moved after all.
    """
    change = (after - before)[where].abs()
    largest = float(change.max()) if change.numel() else 0.0
    if unit > 0:
        return largest / unit
    return 0.0 if largest == 0 else float("inf")
