"""What the item embedding gives for every item, beside what it gives for padding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding, rows_by_id
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from tasks.diagnostics.untouched import untouched

MAX_ITEMS = 512

ROUNDING = 1e-5
"""Change of a row, as a share of it, that writing the same row again can make."""


@dataclass(frozen=True)
class EmbeddingLookup:
    """Items that can't be told from padding where they are looked up."""

    like_padding: int | None = quantity("items with the vector of padding")
    num_items: int = quantity("items looked up")
    rows_written: int | None = quantity("rows that looking items up changes", default=None)


def measure(probe: Probe) -> EmbeddingLookup:
    """Run rows of one item and one padding through the model; see what the embedding gives.

    Weights are shaken, so that rows of zeros are told apart by where they lie.
    """
    model = probe.model()
    num_items = probe.data.num_items
    table = item_embedding(model, num_items)
    items = torch.linspace(1, num_items, min(MAX_ITEMS, num_items)).round().long().unique()
    if table is None:
        return EmbeddingLookup(None, len(items))
    shake_weights(model, probe.seed)
    found: list[Tensor] = []

    def note(module: nn.Module, args: tuple, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.shape[:2] == (len(items), 2):
            found.append(output.detach())

    ids = torch.stack([items, torch.zeros_like(items)], dim=1)
    handle = table.register_forward_hook(note)
    with untouched(), torch.no_grad():
        probe.logits(model, Batch(ids, torch.zeros_like(ids), ids > 0, torch.zeros_like(ids)))
    handle.remove()
    if not found:
        return EmbeddingLookup(None, len(items))
    first, padding = found[0][:, 0], found[0][:, 1]
    alike = int((first == padding).flatten(1).all(dim=1).sum())
    return EmbeddingLookup(alike, len(items), _rows_written(probe))


def _rows_written(probe: Probe) -> int:
    """Rows of items that scoring a batch changes.

    A constraint on the whole table that is met from then on makes scores no less a function of
    weights and input, and does not count: the change has to come again, or to leave out rows that
    were not looked up.
    """
    batch = probe.batch(rows=2, positions=4)
    model = probe.model()
    shake_weights(model, probe.seed)
    table = item_embedding(model, probe.data.num_items)
    rows = [rows_by_id(probe, table.weight.detach()).clone()]
    with untouched(), torch.no_grad():
        for _ in range(2):
            probe.logits(model, batch)
            rows.append(rows_by_id(probe, table.weight.detach()).clone())
    changed = [
        ((new - old).norm(dim=1) > ROUNDING * old.norm(dim=1)) for old, new in pairwise(rows)
    ]
    looked_up = torch.zeros_like(changed[0])
    looked_up[batch.item_ids[batch.item_ids < len(looked_up)]] = True
    for one in (*changed, looked_up):
        one[0] = False  # padding's row may be kept at zero
    everywhere = bool(changed[0][~looked_up].any())
    return int(changed[1].sum() if everywhere else changed[0].sum())
