"""What the item embedding gives for every item, beside what it gives for padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from tasks.diagnostics.untouched import untouched

MAX_ITEMS = 512


@dataclass(frozen=True)
class EmbeddingLookup:
    """Items that can't be told from padding where they are looked up."""

    like_padding: int | None = quantity("items with the vector of padding")
    num_items: int = quantity("items looked up")


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
    return EmbeddingLookup(int((first == padding).flatten(1).all(dim=1).sum()), len(items))
