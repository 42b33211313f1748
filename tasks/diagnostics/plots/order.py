"""What shuffled histories cost, and how much they have to cost a model that reads the order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import PreparedData
from tasks.diagnostics.measurements import count_models
from tasks.diagnostics.measurements.ablations import CERTAIN, USED, WORTH
from tasks.diagnostics.measurements.trends import chance_of_no_gain
from tasks.evaluation.ranking import rank_targets
from tasks.training.models import NeuralRecommender
from xlstm_model import lengths_to_mask

Row = dict[str, Any]

RANKED_USERS = 512
CUTOFF = 10
MOST_SCORES = 16_000_000
"""Scores held at once, 64 MB: fewer users at a time for a larger catalogue."""

TRANSITIONS = "transitions"


@dataclass(frozen=True)
class OrderSample:
    """The same users' histories twice, right-padded.

    Attributes:
        in_order: (B, S) int64.
        shuffled: (B, S) int64, the same events of every row in random order.
        lengths: (B,) int64.
        times: (B, S) int64, microseconds.
        targets: (B,) int64.
    """

    in_order: Tensor
    shuffled: Tensor
    lengths: Tensor
    times: Tensor
    targets: Tensor


def order_sample(data: PreparedData, max_len: int, seed: int = 0) -> OrderSample:
    """Draw test users, and shuffle their histories of at most ``max_len`` events."""
    rng = np.random.default_rng(seed)
    count = min(RANKED_USERS, len(data.test))
    index = np.sort(rng.choice(len(data.test), size=count, replace=False))
    found = data.histories(data.test, index, max_len)
    item_ids, lengths = torch.from_numpy(found.item_ids), torch.from_numpy(found.lengths)
    return OrderSample(
        in_order=item_ids,
        shuffled=shuffle(item_ids, lengths, torch.Generator().manual_seed(seed)),
        lengths=lengths,
        times=torch.from_numpy(found.times),
        targets=torch.from_numpy(np.asarray(data.test.targets)[index]),
    )


def order_effect(
    model: str, recommender: NeuralRecommender, sample: OrderSample, must_lose: float | None = None
) -> list[Row]:
    """NDCG@10 of the same test users from their histories in order, and from shuffled ones.

    Args:
        model: Name.
        recommender: Trained.
        sample: Whose histories.
        must_lose: Least NDCG@10 that shuffling has to cost; None where it need not cost any.

    Returns:
        Two rows with model, histories (``in order``, ``shuffled``), value, low and high, the mean
        with a 95 % interval over users; the second one with ``limit``, the most a model that uses
        the order reaches from shuffled histories, or None.
    """
    return _rows(model, lambda ids: _gains(recommender, ids, sample), sample, must_lose)


def counting_order_effect(data: PreparedData, sample: OrderSample) -> tuple[list[Row], float]:
    """Do the same for transition counts, from the last item alone.

    Returns:
        The rows, and what shuffling has to cost a model that uses the order: the share of
        counting's own loss that the question `features_used` asks for, 0 where it loses nothing.
    """
    counts = count_models.count(data.train.items, data.train.offsets, data.num_items)
    last = (sample.lengths - 1).clamp(min=0)[:, None]
    targets = sample.targets.numpy()

    def gains(item_ids: Tensor) -> Tensor:
        items = item_ids.gather(1, last)[:, 0].numpy()
        return _cut(torch.from_numpy(count_models.transition_ranks(counts, items, targets)))

    before, after = gains(sample.in_order).numpy(), gains(sample.shuffled).numpy()
    lost = float((before - after).mean()) if len(before) else 0.0
    matters = len(before) > 1 and chance_of_no_gain(before, after) <= CERTAIN
    clear = matters and lost >= WORTH * float(before.mean())
    return _rows(TRANSITIONS, gains, sample, None), USED * lost if clear else 0.0


def _rows(
    model: str, gains: Callable[[Tensor], Tensor], sample: OrderSample, must_lose: float | None
) -> list[Row]:
    in_order = _row(model, "in order", gains(sample.in_order))
    shuffled = _row(model, "shuffled", gains(sample.shuffled))
    limit = in_order["value"] - must_lose if must_lose else None
    return [in_order, {**shuffled, "limit": limit}]


def _row(model: str, histories: str, gains: Tensor) -> Row:
    spread = 1.96 * float(gains.std()) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    mean = float(gains.mean()) if len(gains) else 0.0
    return {
        "model": model,
        "histories": histories,
        "value": mean,
        "low": mean - spread,
        "high": mean + spread,
    }


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


def _gains(recommender: NeuralRecommender, item_ids: Tensor, sample: OrderSample) -> Tensor:
    ranks = []
    rows = max(1, MOST_SCORES // (recommender.num_items + 1))
    for start in range(0, len(sample.targets), rows):
        part = slice(start, start + rows)
        scores = recommender.score(item_ids[part], sample.lengths[part], sample.times[part])
        ranks.append(rank_targets(scores, sample.targets[part]))
    return _cut(torch.cat(ranks) if ranks else torch.zeros(0))


def _cut(ranks: Tensor) -> Tensor:
    """NDCG@10 of single targets by rank, float64."""
    ranks = ranks.double()
    return torch.where(ranks <= CUTOFF, 1 / torch.log2(ranks + 1), 0.0)
