"""How far back scores reach: gradient by time lag, and what shuffled histories cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import PreparedData
from tasks.diagnostics.plots.sample import Sample
from tasks.evaluation.ranking import rank_targets
from tasks.training.models import NeuralRecommender
from xlstm_model import lengths_to_mask

Row = dict[str, Any]

LONGEST_LAG = 48
RANKED_USERS = 512
CUTOFF = 10
MOST_SCORES = 16_000_000
"""Scores held at once, 64 MB: fewer users at a time for a larger catalogue."""


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


def order_effect(
    model: str, recommender: NeuralRecommender, data: PreparedData, seed: int = 0
) -> list[Row]:
    """NDCG@10 of the same test users from their histories in order, and from shuffled ones.

    Returns:
        Two rows with model, histories (``in order``, ``shuffled``), value, low and high, the mean
        with a 95 % interval over users.
    """
    rng = np.random.default_rng(seed)
    count = min(RANKED_USERS, len(data.test))
    index = np.sort(rng.choice(len(data.test), size=count, replace=False))
    found = data.histories(data.test, index, recommender.max_seq_len)
    targets = torch.from_numpy(np.asarray(data.test.targets)[index])
    item_ids = torch.from_numpy(found.item_ids)
    lengths, times = torch.from_numpy(found.lengths), torch.from_numpy(found.times)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for histories, ids in (
        ("in order", item_ids),
        ("shuffled", shuffle(item_ids, lengths, generator)),
    ):
        gains = _gains(recommender, ids, lengths, times, targets)
        spread = 1.96 * float(gains.std()) / max(len(gains), 1) ** 0.5 if len(gains) > 1 else 0.0
        mean = float(gains.mean()) if len(gains) else 0.0
        rows.append(
            {
                "model": model,
                "histories": histories,
                "value": mean,
                "low": mean - spread,
                "high": mean + spread,
            }
        )
    return rows


def shuffle(item_ids: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """Return right-padded histories (B, S) with the real events of each row in random order.

    >>> rows = shuffle(torch.tensor([[1, 2, 3, 0]]), torch.tensor([3]), torch.Generator())
    >>> sorted(rows[0, :3].tolist()), int(rows[0, 3])
    ([1, 2, 3], 0)
    """
    keys = torch.rand(item_ids.shape, generator=generator)
    mask = lengths_to_mask(lengths, item_ids.shape[1])
    order = torch.where(mask, keys, 2.0).argsort(dim=1, stable=True)
    return item_ids.gather(1, order)


def _gains(
    recommender: NeuralRecommender,
    item_ids: Tensor,
    lengths: Tensor,
    times: Tensor,
    targets: Tensor,
) -> Tensor:
    ranks = []
    rows = max(1, MOST_SCORES // (recommender.num_items + 1))
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        scores = recommender.score(item_ids[part], lengths[part], times[part])
        ranks.append(rank_targets(scores, targets[part]))
    rank = torch.cat(ranks).double() if ranks else torch.zeros(0).double()
    return torch.where(rank <= CUTOFF, 1 / torch.log2(rank + 1), 0.0)
