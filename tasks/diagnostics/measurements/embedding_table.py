"""The item embedding before training: rows, padding, and whether items can be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.loss_forms import cross_entropy
from tasks.diagnostics.measurements.padding_swap import item_embedding, rows_by_id
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

MAX_ITEMS = 256


@dataclass(frozen=True)
class EmbeddingTable:
    """What the table of item vectors is like at the start."""

    num_rows: int = quantity("rows")
    expected_rows: int = quantity("rows")
    width: int = quantity("features of a row")
    repeated_rows: int = quantity("rows equal to another item's")
    padding_norm: float = quantity("norm of the padding row over a typical row")
    takes_gradient: bool = quantity("the table takes a gradient")
    same_scores: float = quantity("share of items the model can't tell from another one")
    initial_excess: float = quantity("initial cross-entropy minus ln(number of items), in nats")


def measure(probe: Probe) -> EmbeddingTable:
    """Look at the table and at the scores after histories of one event each."""
    model = probe.model()
    num_items = probe.data.num_items
    table = item_embedding(model, num_items)
    if table is None:
        raise NotApplicableError(f"the model has no nn.Embedding with {num_items + 1} rows or more")
    weight = rows_by_id(probe, table.weight.detach().double())
    typical = float(weight[1:].norm(dim=1).median())
    repeated = len(weight) - 1 - len(torch.unique(weight[1:], dim=0))
    batch = probe.batch()
    logits = probe.replay(batch, shake=False)
    rows, columns = batch.asked.nonzero(as_tuple=True)
    loss = float(cross_entropy(logits[rows, columns], batch.targets[rows, columns]))
    return EmbeddingTable(
        num_rows=table.num_embeddings,
        expected_rows=num_items + 1,
        width=table.embedding_dim,
        repeated_rows=repeated,
        padding_norm=float(weight[0].norm()) / typical if typical > 0 else float("inf"),
        takes_gradient=table.weight.requires_grad,
        same_scores=_same_scores(probe),
        initial_excess=loss - math.log(num_items),
    )


def _same_scores(probe: Probe) -> float:
    """Share of items after which the model scores exactly as after another item."""
    num_items = probe.data.num_items
    count = min(MAX_ITEMS, num_items)
    items = torch.linspace(1, num_items, count).round().long().unique()
    ids = items[:, None]
    batch = Batch(ids, torch.ones_like(ids), ids > 0, torch.zeros_like(ids))
    scores = probe.replay(batch, shake=False)[:, 0]
    return 1.0 - len(torch.unique(scores, dim=0)) / len(items)
