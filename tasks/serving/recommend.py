"""Histories in, the best items out; only one batch of scores exists at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tasks.serving.history import History

BATCH_SIZE = 256
MAX_SCORES_AT_ONCE = 2**24
"""Scores held at a time: 64 MiB in float32."""
MAX_EVENTS_AT_ONCE = 2**17
"""Events, padding included, that a model is shown at a time."""

POPULARITY = "popularity"


class EmptyHistoryError(ValueError):
    """A history without any known item, where popularity is not to answer for the model."""


class Scorer(Protocol):
    """The part of a recommender that serving uses."""

    name: str
    num_items: int

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Recommendation:
    """The best items of one history.

    Attributes:
        items: encoded ids, best first; fewer than asked for where there are no more.
        scores: one per item; comparable within this list only.
        answered_by: name of the model, or "popularity" where the history was empty.
    """

    items: list[int]
    scores: list[float]
    answered_by: str


def recommend(
    model: Scorer,
    histories: Sequence[History],
    *,
    top_k: int,
    max_len: int,
    exclude_seen: bool = False,
    popularity: np.ndarray | None = None,
) -> list[Recommendation]:
    """Recommend items after each history.

    Args:
        model: any recommender.
        histories: one per answer, oldest event first.
        top_k: items per answer, at least 1.
        max_len: most recent events the model is shown, as in its evaluation. The filter on seen
            items looks at the whole history.
        exclude_seen: leave out items of the history.
        popularity: (V,) training events by item, which answer for empty histories.

    Raises:
        EmptyHistoryError: a history is empty and there is no `popularity`.
        ValueError: `top_k` is below 1, or the model reads times and a history has none.

    >>> class LastItem:
    ...     name, num_items = "last_item", 3
    ...     def score(self, item_ids, lengths, times=None):
    ...         scores = torch.zeros(len(item_ids), 4).scatter(1, item_ids[:, -1:], 1.0)
    ...         return scores.index_fill(1, torch.tensor([0]), -torch.inf)
    >>> recommend(LastItem(), [History(np.array([1, 3]), None)], top_k=1, max_len=9)
    [Recommendation(items=[3], scores=[1.0], answered_by='last_item')]
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1 item.")
    empty = [len(history.items) == 0 for history in histories]
    if any(empty) and popularity is None:
        raise EmptyHistoryError(
            f"history {empty.index(True) + 1} of {len(empty)} holds no item the model knows. Give "
            "at least one, or let popularity answer (recommend.empty_history: popularity)."
        )
    answers: dict[int, Recommendation] = {}
    filled = [number for number, is_empty in enumerate(empty) if not is_empty]
    lengths = {number: min(max_len, len(histories[number].items)) for number in filled}
    for numbers in _batches(lengths, MAX_SCORES_AT_ONCE // (model.num_items + 1)):
        batch = [histories[number] for number in numbers]
        scores = score_batch(model, batch, max_len)
        seen = [history.items for history in batch] if exclude_seen else None
        for number, answer in zip(
            numbers, best_items(scores, top_k, model.name, seen), strict=True
        ):
            answers[number] = answer
    if popularity is not None and any(empty):
        counts = torch.as_tensor(np.array(popularity), dtype=torch.float32)[None].clone()
        counts[:, 0] = -torch.inf
        (most_popular,) = best_items(counts, top_k, POPULARITY)
        answers |= {number: most_popular for number, is_empty in enumerate(empty) if is_empty}
    return [answers[number] for number in range(len(histories))]


def _batches(lengths: dict[int, int], most_rows: int) -> Iterator[list[int]]:
    """Histories to score at once: of about the same length, which keeps padding small."""
    left = sorted(lengths, key=lengths.__getitem__)
    while left:  # from the longest on, so that the first of a batch says how wide it is
        most = min(BATCH_SIZE, most_rows, MAX_EVENTS_AT_ONCE // lengths[left[-1]])
        taken = max(1, most)
        left, batch = left[:-taken], left[-taken:]
        yield batch


def score_batch(model: Scorer, histories: Sequence[History], max_len: int) -> Tensor:
    """Scores (B, V) after each history's last event, from its last `max_len` events.

    Raises:
        ValueError: the model reads times and a history has none.
    """
    lengths = [min(len(history.items), max_len) for history in histories]
    item_ids = torch.zeros(len(histories), max(lengths), dtype=torch.int64)
    times = torch.zeros_like(item_ids)
    for row, (history, length) in enumerate(zip(histories, lengths, strict=True)):
        item_ids[row, :length] = torch.as_tensor(history.items[-length:])
        if history.times is not None:
            times[row, :length] = torch.as_tensor(history.times[-length:])
    without = sum(history.times is None for history in histories)
    if without and reads_times(model):
        raise ValueError(
            f"{model.name} was trained with times (time_gaps), and {without} of {len(histories)} "
            "histories have none. Give a time for every event, or choose another model."
        )
    with torch.inference_mode():
        return model.score(item_ids, torch.tensor(lengths), times)


def reads_times(model: Any) -> bool:
    """Whether a recommender's scores depend on when events happened."""
    return getattr(getattr(model, "model", None), "time_gaps", None) is not None


def best_items(
    scores: Tensor, top_k: int, answered_by: str, seen: Sequence[np.ndarray] | None = None
) -> list[Recommendation]:
    """The best real items of each row of scores (B, V).

    Args:
        scores: float (B, V), column 0 is padding.
        top_k: items per row.
        answered_by: what made the scores.
        seen: items of each row to leave out.

    >>> best_items(torch.tensor([[9.0, 0.5, 2.0]]), 2, "toy", [np.array([2])])
    [Recommendation(items=[1], scores=[0.5], answered_by='toy')]
    """
    with torch.inference_mode():
        real = scores[:, 1:]
        if seen is not None:
            real = real.clone()
            for row, items in enumerate(seen):
                real[row, torch.as_tensor(items, dtype=torch.int64) - 1] = -torch.inf
        values, columns = real.topk(min(top_k, real.shape[1]), dim=1)
        possible = (values > -torch.inf).sum(dim=1).tolist()
        items, best = (columns + 1).tolist(), values.tolist()
    return [
        Recommendation(items[row][:count], best[row][:count], answered_by)
        for row, count in enumerate(possible)
    ]
