"""How strongly does the last score pull on embeddings further and further back?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.measurements.perturbation import other_items
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch


@dataclass(frozen=True)
class GradientByLag:
    """Norm of the gradient of the last score by the embedding `k` events before."""

    at_zero: float = quantity("gradient norm at lag 0")
    at_lag: float = quantity("gradient norm at the longest lag over that at lag 0")
    lag: int = quantity("events")
    influence: float = quantity("change of the last score by another event at that lag, relative")
    half_life: float = quantity("events until the gradient halves, from a log-linear fit")
    by_lag: tuple[float, ...] = ()


def measure(probe: Probe) -> GradientByLag:
    """Differentiate the spread of the last scores by the embedded history of full rows."""
    first = probe.all_batches[0]
    longest = int(first.lengths.max())
    if longest < 3:
        raise NotMeasuredError("a training window of at least three events")
    width = min(longest, 24)
    full = first.rows(first.mask[:, :width].all(dim=1).nonzero().flatten()[:4])
    if len(full.item_ids) == 0:
        raise NotMeasuredError(f"a right-padded training window of {width} events")
    batch = full.columns(slice(0, width))
    model = probe.model()
    table = item_embedding(model, probe.data.num_items)
    if table is None:
        raise NotApplicableError("the model has no item embedding to differentiate by")
    embedded: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if output.ndim != 3:
            return None
        # A leaf of our own: the lag profile must not depend on the table taking a gradient.
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = table.register_forward_hook(keep)
    try:
        last = probe.logits(model, batch)[:, -1, 1:].double()
    finally:
        handle.remove()
    gradient = _by_history(last, embedded, batch)
    norms = gradient.double().norm(dim=2).mean(dim=0).flip(0).tolist()  # by lag
    lag = len(norms) - 1
    return GradientByLag(
        at_zero=norms[0],
        at_lag=norms[lag] / norms[0] if norms[0] > 0 else 0.0,
        lag=lag,
        influence=_influence(probe, batch, lag),
        half_life=_half_life(norms),
        by_lag=tuple(norms),
    )


def _influence(probe: Probe, batch, lag: int) -> float:
    """Change of the last score when the event at `lag` changes, over that for the last event."""
    before = probe.replay(batch, shake=False)[:, -1]

    def change(position: int) -> float:
        ids = batch.item_ids.clone()
        ids[:, position : position + 1] = other_items(
            ids[:, position : position + 1], probe.data.num_items, probe.seed
        )
        return float((probe.replay(batch.with_items(ids), shake=False)[:, -1] - before).norm())

    width = batch.item_ids.shape[1]
    latest = change(width - 1)
    return change(width - 1 - lag) / latest if latest > 0 else 0.0


def _half_life(norms: list[float]) -> float:
    """ln 2 over the decay of ln(norm) per event, by least squares over positive norms."""
    points = [(lag, math.log(norm)) for lag, norm in enumerate(norms) if norm > 0]
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    top = sum((x - mean_x) * (y - mean_y) for x, y in points)
    slope = top / sum((x - mean_x) ** 2 for x, _ in points)
    return math.log(2) / -slope if slope < 0 else float("inf")


def _by_history(last: Tensor, embedded: list[Tensor], batch: Batch) -> Tensor:
    """Gradient of the last scores by the embedded history, (B, S, D).

    A model with one row of scores per history embeds once per position; only the call that scored
    the last position has a gradient.
    """
    if not embedded or not last.requires_grad:
        raise SubjectError("logits", "the scores have no gradient by the embedded history")
    weights = torch.randn(last.shape, generator=torch.Generator().manual_seed(0)).double()
    found = torch.autograd.grad((last * weights).sum(), embedded, allow_unused=True)
    shape = tuple(batch.item_ids.shape)
    gradients = [g if g.shape[:2] == shape else g.transpose(0, 1) for g in found if g is not None]
    fitting = [g for g in gradients if tuple(g.shape[:2]) == shape]
    if not gradients:
        raise SubjectError("logits", "the scores have no gradient by the embedded history")
    if not fitting:
        raise NotMeasuredError("an item embedding that is called with the history as it is")
    return torch.stack(fitting).sum(dim=0)
