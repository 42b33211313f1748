"""Does padding reach a real score, the loss or the gradient? And does being batched?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.loss_oracle import program_loss, ragged_batch
from tasks.diagnostics.measurements.perturbation import largest_change, other_items, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

EXTRA_COLUMNS = 3


@dataclass(frozen=True)
class PaddingSwap:
    """Changes of real scores, loss and gradients caused by padding alone."""

    by_more_padding: float = quantity("standard deviations of the logits")
    by_padding_content: float | None = quantity("standard deviations of the logits")
    by_batching: float = quantity("standard deviations of the logits")
    loss_change: float | None = quantity("share of the loss")
    row_gradient: float | None = quantity("share of the embedding's largest row gradient")
    training_sides: str = quantity("sides padding stands on in training batches")
    padded_share: float = quantity("share of positions that are padding")


def measure(probe: Probe) -> PaddingSwap:
    """Add padding, change what stands in it, and score rows one by one without any."""
    batch = ragged_batch(probe, rows=6)
    side = sides(probe.all_batches)
    # Room for more columns within the declared longest input.
    room = max(1, probe.subject.declared.max_seq_len - EXTRA_COLUMNS)
    batch = batch.columns(slice(-room, None) if side == "left" else slice(0, room))
    before = probe.replay(batch)
    unit = spread(before, batch.mask)
    left = side == "left"
    wider = pad(batch, EXTRA_COLUMNS, left=left)
    after = probe.replay(wider)
    kept = after[:, EXTRA_COLUMNS:] if left else after[:, :-EXTRA_COLUMNS]
    return PaddingSwap(
        by_more_padding=largest_change(before, kept, batch.mask, unit),
        by_padding_content=None if left else _content(probe, wider, after, unit),
        by_batching=_one_by_one(probe, batch, before, unit),
        loss_change=_loss_change(probe, batch, wider),
        row_gradient=_row_gradient(probe, batch),
        training_sides=side,
        padded_share=float((~batch.mask).double().mean()),
    )


def sides(batches: tuple[Batch, ...]) -> str:
    """Return where padding stands: right, left, both or none."""
    right = any(bool((b.mask[:, 0] & ~b.mask[:, -1]).any()) for b in batches)
    left = any(bool((~b.mask[:, 0] & b.mask[:, -1]).any()) for b in batches)
    return {(1, 0): "right", (0, 1): "left", (1, 1): "both", (0, 0): "none"}[right, left]


def pad(batch: Batch, columns: int, *, left: bool) -> Batch:
    """Return the batch with padding columns added on one side."""

    def grow(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        extra = tensor.new_zeros(len(tensor), columns)
        return torch.cat([extra, tensor] if left else [tensor, extra], dim=1)

    return batch._replace(
        item_ids=grow(batch.item_ids),
        targets=grow(batch.targets),
        mask=grow(batch.mask),
        times=grow(batch.times),
    )


def unpadded(batch: Batch, row: int) -> Batch:
    """Return one row alone, without its padding."""
    one = batch.rows(slice(row, row + 1))
    real = one.mask[0].nonzero().flatten()
    return one.columns(real)


def _content(probe: Probe, wider: Batch, before: Tensor, unit: float) -> float:
    """Change of real scores when right padding holds item ids while the mask stays."""
    filled = torch.ones_like(wider.item_ids)
    filled = other_items(filled, max(2, probe.data.num_items), probe.seed)
    item_ids = torch.where(wider.mask, wider.item_ids, filled.clamp(max=probe.data.num_items))
    after = probe.replay(wider.with_items(item_ids))
    return largest_change(before, after, wider.mask, unit)


def _one_by_one(probe: Probe, batch: Batch, before: Tensor, unit: float) -> float:
    """Change of real scores when each row is scored alone and unpadded."""
    worst = 0.0
    for row in range(len(batch.item_ids)):
        alone = unpadded(batch, row)
        if alone.item_ids.shape[1] == 0:
            continue
        after = probe.replay(alone)
        together = before[row, batch.mask[row]][None]
        worst = max(worst, largest_change(together, after, alone.mask, unit))
    return worst


def _loss_change(probe: Probe, batch: Batch, wider: Batch) -> float | None:
    """Relative change of the program's loss by padding columns that ask for nothing."""
    if probe.subject.loss is None:
        return None
    torch.manual_seed(probe.seed)
    once = float(program_loss(probe, probe.model(), batch).detach())
    torch.manual_seed(probe.seed)
    again = float(program_loss(probe, probe.model(), wider).detach())
    return abs(again - once) / max(abs(once), 1e-12)


def _row_gradient(probe: Probe, batch: Batch) -> float | None:
    """Gradient of the padding row of the item embedding, beside the largest row gradient."""
    if probe.subject.loss is None:
        return None
    model = probe.model()
    embedding = item_embedding(model, probe.data.num_items)
    if embedding is None or not embedding.weight.requires_grad:
        return None
    loss = program_loss(probe, model, batch)
    if not loss.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(loss, [embedding.weight], allow_unused=True)
    if gradient is None:
        return None
    norms = rows_by_id(probe, gradient.to_dense().double()).norm(dim=1)
    largest = float(norms.max())
    return float(norms[0]) / largest if largest > 0 else None


def item_embedding(model: nn.Module, num_items: int) -> nn.Embedding | None:
    """Return the table of item vectors: the embedding that has a row for every id."""
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    fitting = [t for t in tables if t.num_embeddings == num_items + 1]
    larger = [t for t in tables if t.num_embeddings > num_items + 1]
    return (fitting or larger or [None])[0]


def rows_by_id(probe: Probe, table: Tensor) -> Tensor:
    """Return the rows of an item embedding by id: padding's first, then the items'.

    A table too small for all items gives the rows it has.
    """
    rows = probe.subject.declared.rows(probe.data.num_items)
    return table[[row for row in rows if row < len(table)]]
