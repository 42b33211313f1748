"""How far back scores reach: gradient by time lag."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.plots.sample import Sample
from tasks.training.models import NeuralRecommender

Row = dict[str, Any]

LONGEST_LAG = 48


def gradient_by_lag(
    model: str, weights: str, recommender: NeuralRecommender, sample: Sample
) -> list[Row]:
    """Gradient of the last scores by the embedding of events further and further back.

    Args:
        model: Name.
        weights: ``trained`` or ``new``, for the rows.
        recommender: With those weights.
        sample: Users whose histories are long enough count, by at least half the longest lag.

    Returns:
        Rows with model, weights, lag (0 is the last event) and value, the mean norm over that at
        lag 0; empty where histories are too short.
    """
    lags = min(LONGEST_LAG, int(sample.lengths.max()))
    rows = (sample.lengths >= lags).nonzero().flatten()[:16]
    if lags < 3 or len(rows) == 0:
        return []
    ends = sample.lengths[rows]
    columns = (ends - lags)[:, None] + torch.arange(lags)
    item_ids, times = (t[rows].gather(1, columns) for t in (sample.item_ids, sample.times))
    embedded: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    network = recommender.model.eval()
    handle = network.item_embedding.register_forward_hook(keep)
    try:
        full = torch.full((len(rows),), lags)
        scores = network.last_scores(item_ids, full, times)[:, 1:]
    finally:
        handle.remove()
    direction = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((scores * direction).sum(), [embedded[0]])
    norms = gradient.double().norm(dim=2).mean(dim=0).flip(0)
    if float(norms[0]) <= 0:
        return []
    return [
        {"model": model, "weights": weights, "lag": lag, "value": float(norm / norms[0])}
        for lag, norm in enumerate(norms)
    ]
