"""Do scores answer small changes of the embedded history in proportion to large ones?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.measurements.perturbation import other_items
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from tasks.diagnostics.untouched import untouched

STEP = {torch.float64: 1e-5, torch.float32: 1e-2}
"""Small change, as a share of the difference between two items' embeddings."""


@dataclass(frozen=True)
class Response:
    """Change of the last scores per change of the embedded history, small over large."""

    ratio: float = quantity("response to a small change over that to a large one")
    precision: str = quantity("precision")


def measure(probe: Probe) -> Response:
    """Move every embedded event a little, then all the way, to that of another item.

    Weights are initial ones, or trained ones where there are any. A smooth model answers both
    changes about alike; saturated or dead units do not answer the small one, chaotic recurrences
    answer it too much.
    """
    batch = probe.batch(rows=8, positions=16)
    full = batch.rows(batch.mask.all(dim=1).nonzero().flatten())
    batch = full if len(full.item_ids) else batch.columns(slice(0, int(batch.lengths.min())))
    if batch.item_ids.shape[1] == 0:
        raise NotMeasuredError("training windows without padding")
    other = batch.with_items(other_items(batch.item_ids, probe.data.num_items, probe.seed))
    before = _last(probe, batch, None)
    step = STEP[probe.precision]
    difference = _embedded(probe, other) - _embedded(probe, batch)
    # Items that reach the scores by another way than their embedding take part in neither.
    large = _last(probe, batch, difference) - before
    small = (_last(probe, batch, step * difference) - before) / step
    size = float(large.norm())
    if not 0 < size < float("inf"):
        raise NotMeasuredError("finite scores that depend on the history")
    return Response(
        ratio=float(small.norm()) / size,
        precision=str(probe.precision).removeprefix("torch."),
    )


def _model(probe: Probe) -> tuple[nn.Module, nn.Embedding]:
    model = probe.model(trained=probe.subject.trained is not None).to(probe.precision)
    table = item_embedding(model, probe.data.num_items)
    if table is None:
        raise NotApplicableError("the model has no item embedding to change")
    if table.embedding_dim <= 2:
        raise NotApplicableError("a norm over two features keeps their order alone, which jumps")
    return model, table


def _embedded(probe: Probe, batch: Batch) -> Tensor:
    """What the item embedding gives for the batch, (B, S, D)."""
    model, table = _model(probe)
    found: list[Tensor] = []
    handle = table.register_forward_hook(lambda module, args, output: found.append(output))
    with untouched(), torch.no_grad():
        probe.logits(model, batch)
    handle.remove()
    given = [t for t in found if t.ndim == 3 and t.shape[:2] == batch.item_ids.shape]
    if not given:
        raise NotMeasuredError("an item embedding that is called with the batch")
    return given[0]


def _last(probe: Probe, batch: Batch, shift: Tensor | None) -> Tensor:
    """Scores of real items after the last event, with the embedded history shifted."""
    model, table = _model(probe)

    def add(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output + shift if output.shape == shift.shape else output

    if shift is not None:
        table.register_forward_hook(add)
    with untouched(), torch.no_grad():
        torch.manual_seed(probe.seed)
        return probe.logits(model, batch)[:, -1, 1:].double()
