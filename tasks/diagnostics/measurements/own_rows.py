"""Does an item's row of the embedding score that item, and no other?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.untouched import untouched

NUM_ITEMS = 8


@dataclass(frozen=True)
class OwnRows:
    """Scores that answer a change of an item's row while the item is not in the history."""

    num_items: int = quantity("items whose row reaches a score")
    foreign: int = quantity("items whose row moves another item's score most")
    first_foreign: str = ""


def measure(probe: Probe) -> OwnRows:
    """Nudge the rows of items outside a batch, one at a time, and see which scores answer.

    A model that scores items by their embedding answers with that item's score alone; a model with
    an output matrix of its own does not answer at all.
    """
    num_items = probe.data.num_items
    batch = probe.batch(rows=2, positions=4)
    model = probe.model()
    shake_weights(model, probe.seed)
    model.to(probe.precision)
    table = item_embedding(model, num_items)
    if table is None or table.embedding_dim <= 2:
        raise NotApplicableError("the model has no item embedding whose rows could score items")
    rows = probe.subject.declared.rows(num_items)
    absent = sorted(set(range(1, num_items + 1)) - set(batch.item_ids.flatten().tolist()))
    chosen = absent[:: max(1, len(absent) // NUM_ITEMS)][:NUM_ITEMS]
    if not chosen:
        raise NotMeasuredError("an item outside a batch of two short histories")
    answered, foreign = 0, []
    with untouched(), torch.no_grad():
        torch.manual_seed(probe.seed)
        before = probe.logits(model, batch)[..., 1:][batch.mask].double()
        for item in chosen:
            row = table.weight[rows[item]]
            kept = row.clone()
            row.mul_(-1)
            torch.manual_seed(probe.seed)
            after = probe.logits(model, batch)[..., 1:][batch.mask].double()
            row.copy_(kept)
            change = (after - before).abs().nan_to_num(0.0).amax(dim=0)
            if float(change.max()) <= 1e-9:
                continue
            answered += 1
            if int(change.argmax()) + 1 != item:
                foreign.append(f"item {item} scores item {int(change.argmax()) + 1}")
    if answered == 0:
        raise NotApplicableError("items are scored by other weights than their embedding")
    return OwnRows(answered, len(foreign), foreign[0] if foreign else "")
