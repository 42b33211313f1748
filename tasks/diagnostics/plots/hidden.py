"""Size of states by position, spectrum and map of embeddings, paths of hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.diagnostics.plots.sample import SHOWN_EVENTS, Sample, run_model
from tasks.training.models import NeuralRecommender
from xlstm_model import Recorder

Row = dict[str, Any]

MAPPED_ITEMS = 1000
"""Most popular items on the map of embeddings."""

MOST = 0.95
"""Share of points within the circle that says how far points usually lie from the middle."""


def state_norms(model: str, recommender: NeuralRecommender, sample: Sample) -> list[Row]:
    """Median norm by position of a model's hidden states and of an xLSTM's memories.

    Returns:
        Rows with model, part, position (from 1) and value. A position counts while at least half
        of the sample's users have it.
    """
    try:
        recorder = Recorder(recommender.model)
    except ValueError:  # no xLSTM block inside
        parts = {"hidden state": run_model(recommender, sample).norm(dim=-1)}
    else:
        with recorder:
            parts = {"hidden state": run_model(recommender, sample).norm(dim=-1)}
        for name, record in recorder.blocks.items():
            short = block_name(name)
            parts[f"{short} output h"] = record.norms["h"].mean(dim=-1)
            # On the cell's running scale: what is read is a ratio of both.
            parts[f"{short} memory c"] = record.norms["c"].mean(dim=-1)
    return [
        {"model": model, "part": part, "position": position + 1, "value": value}
        for part, norms in parts.items()
        for position, value in enumerate(_medians(norms, sample.mask))
    ]


def block_name(name: str) -> str:
    """Return the short name of a block, as the records of a training have it.

    >>> block_name("sequence_model.blocks.1")
    'block_1'
    """
    return f"block_{name.rpartition('.')[2]}"


def _medians(values: Tensor, mask: Tensor) -> list[float]:
    enough = int((mask.sum(dim=0) * 2 >= len(mask)).sum())
    return [float(values[mask[:, s], s].median()) for s in range(enough)]


def embedding_spectrum(model: str, weights: str, recommender: NeuralRecommender) -> list[Row]:
    """Share of the embeddings' variance in each direction, largest first.

    Args:
        model: Name.
        weights: ``trained`` or ``new``, for the rows.
        recommender: With those weights.

    Returns:
        Rows with model, weights, direction (from 1) and share; shares add up to 1.
    """
    vectors = _items(recommender)
    centred = vectors - vectors.mean(dim=0)
    power = torch.linalg.eigvalsh(centred.T @ centred).flip(0).clamp(min=0.0)
    total = float(power.sum())
    if total <= 0:
        return []
    return [
        {"model": model, "weights": weights, "direction": number, "share": float(value) / total}
        for number, value in enumerate(power, start=1)
    ]


def embedding_map(
    recommender: NeuralRecommender, counts: Sequence[int], labels: Sequence[str]
) -> list[Row]:
    """The two largest principal components of the most popular items' embeddings.

    Args:
        recommender: Trained.
        counts: (V,) training events by item id.
        labels: (V,) names by item id.

    Returns:
        Rows with item, events, x and y.
    """
    vectors = _items(recommender)
    events = torch.as_tensor(list(counts))[1:]
    chosen = events.argsort(descending=True, stable=True)[:MAPPED_ITEMS]
    places = project(vectors[chosen], vectors[chosen])
    return [
        {"item": labels[int(item) + 1], "events": int(events[item]), "x": x, "y": y}
        for item, (x, y) in zip(chosen, places.tolist(), strict=True)
    ]


def reach_before_training(
    recommender: NeuralRecommender, untrained: NeuralRecommender, counts: Sequence[int]
) -> float:
    """How far from the middle of the map 95 % of its items would lie with untrained embeddings.

    Both tables are put on the trained one's axes; the unit is that of `embedding_map`.
    """
    events = torch.as_tensor(list(counts))[1:]
    chosen = events.argsort(descending=True, stable=True)[:MAPPED_ITEMS]
    trained, new = _items(recommender)[chosen], _items(untrained)[chosen]
    # Shifted, so that both tables have their middle where the map has it.
    places = project(new - new.mean(dim=0) + trained.mean(dim=0), trained)
    return _reach(places)


def usual_reach(recommender: NeuralRecommender, others: Sample) -> float:
    """How far from the middle of the plane of `trajectories` 95 % of many users' states lie."""
    context = run_model(recommender, others)[others.mask]
    return _reach(project(context, context))


def _reach(places: Tensor) -> float:
    return float(places.double().norm(dim=1).quantile(MOST))


def trajectories(
    recommender: NeuralRecommender, shown: Sample, others: Sample, labels: Sequence[str]
) -> list[Row]:
    """Paths of the hidden states of a few users over their latest events.

    The two axes are the principal components of the states of many users.

    Returns:
        Rows with user, position (from 1), item, x and y.
    """
    context = run_model(recommender, others)[others.mask]
    hidden = run_model(recommender, shown)
    rows = []
    for user, name in enumerate(shown.users):
        length = int(shown.lengths[user])
        first = max(0, length - SHOWN_EVENTS)
        path = project(hidden[user, first:length], context)
        rows += [
            {
                "user": name,
                "position": first + step + 1,
                "item": labels[int(shown.item_ids[user, first + step])],
                "x": x,
                "y": y,
            }
            for step, (x, y) in enumerate(path.tolist())
        ]
    return rows


def project(vectors: Tensor, context: Tensor) -> Tensor:
    """Put vectors (N, D) on the two main directions of ``context`` (M, D): (N, 2).

    The sign of each axis is chosen so that the largest loading is positive: the same data give
    the same picture.

    >>> line = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    >>> project(line, line)[:, 0].tolist()
    [-2.0, 0.0, 2.0]
    """
    mean = context.mean(dim=0)
    _, _, directions = torch.linalg.svd(context - mean, full_matrices=False)
    two = directions[:2]
    if len(two) < 2:
        two = torch.cat([two, two.new_zeros(2 - len(two), two.shape[1])])
    strongest = two.abs().argmax(dim=1, keepdim=True)
    two = two * torch.where(two.gather(1, strongest) < 0, -1.0, 1.0)
    return (vectors - mean) @ two.T


def _items(recommender: NeuralRecommender) -> Tensor:
    return recommender.model.item_embedding.weight.detach()[1:].double()
