"""Which past events moved a recommendation.

Two views of the same question. Leaving an event out says what the recommendation would have been
had it not happened; it works with every model. Gradient times embedding (Shrikumar et al. 2016,
input times gradient) says in which direction the event pulls at the margin; it needs a network.
Where a model is linear in its events the two are equal.

Both look at the item's score above the mean of the catalogue: what shifts all scores alike moves
no recommendation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.serving.history import History
from tasks.serving.recommend import BATCH_SIZE, MAX_SCORES_AT_ONCE, Scorer, score_batch
from xlstm_model import SequenceRecommender


@dataclass(frozen=True)
class Explanation:
    """What each event of a history did for one item.

    Attributes:
        item: the explained item, encoded.
        events: the events the model was shown, oldest first.
        influence: float64 (S,), the item's score above the catalogue's mean minus the same without
            the event; positive where the event spoke for the item.
        gradient: float64 (S,), gradient of the same quantity times the event's embedding; None for
            models without gradients.
    """

    item: int
    events: History
    influence: np.ndarray
    gradient: np.ndarray | None


def explain(model: Scorer, history: History, item: int, max_len: int) -> Explanation:
    """Explain one item of a recommendation.

    Args:
        model: any recommender.
        history: at least one event.
        item: encoded id, 1..num_items.
        max_len: most recent events the model is shown; earlier ones moved nothing.

    Raises:
        ValueError: the history is empty, or the item is outside the vocabulary.
    """
    if len(history.items) == 0:
        raise ValueError("the history is empty; expected at least one event to explain by.")
    if not 1 <= item <= model.num_items:
        raise ValueError(f"item is {item}; expected an encoded id in 1..{model.num_items}.")
    times = None if history.times is None else history.times[-max_len:]
    shown = History(history.items[-max_len:], times)
    network = getattr(model, "model", None)
    gradient = None
    if isinstance(network, SequenceRecommender):
        gradient = gradient_times_embedding(network, shown, item)
    return Explanation(item, shown, leave_one_out(model, shown, item), gradient)


def leave_one_out(model: Scorer, history: History, item: int) -> np.ndarray:
    """What the item's score above the mean loses without each event, float64 (S,)."""
    length = len(history.items)
    rows = max(1, min(BATCH_SIZE, MAX_SCORES_AT_ONCE // (model.num_items + 1)))
    variants = [history, *(without(history, place) for place in range(length))]
    values = [
        above_mean(score_batch(model, variants[start : start + rows], length), item)
        for start in range(0, len(variants), rows)
    ]
    scores = torch.cat(values).numpy()
    return scores[0] - scores[1:]


def without(history: History, place: int) -> History:
    """A history with one event left out.

    >>> without(History(np.array([7, 8, 9]), None), 1).items.tolist()
    [7, 9]
    """
    times = None if history.times is None else np.delete(history.times, place)
    return History(np.delete(history.items, place), times)


def above_mean(scores: Tensor, item: int) -> Tensor:
    """An item's score minus the mean over all real items, float64 (B,), of scores (B, V).

    >>> above_mean(torch.tensor([[-torch.inf, 1.0, 3.0]]), 2)
    tensor([1.], dtype=torch.float64)
    """
    real = scores[:, 1:].double()
    return real[:, item - 1] - real.mean(dim=1)


def gradient_times_embedding(
    network: SequenceRecommender, history: History, item: int
) -> np.ndarray:
    """Gradient of the item's score above the mean with respect to each event, float64 (S,).

    Weights and their gradients are left as they were.
    """
    embedded: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = network.item_embedding.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            times = None if history.times is None else torch.as_tensor(history.times)[None]
            scores = network.eval().last_scores(
                torch.as_tensor(history.items)[None], torch.tensor([len(history.items)]), times
            )
            (value,) = above_mean(scores, item)
            (gradient,) = torch.autograd.grad(value, embedded[0])
    finally:
        hook.remove()
    return (gradient * embedded[0].detach()).sum(-1)[0].double().numpy()
