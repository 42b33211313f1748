"""Rank the held-out item of every user of a split: full catalogue, batch by batch.

Only one batch of scores exists at a time, and its size follows the catalogue: 100,000 users by
500,000 items are ranked within the memory of a few dozen rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from tasks.evaluation.ranking import SeenItems, rank_targets, top_items

ScoreFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(item_ids (B, S) right-padded, lengths (B,), times (B, S)) -> scores (B, V)."""

FilterSeen = Literal["no", "yes", "both"]

MAX_SCORES_AT_ONCE = 2**24
"""Scores held at a time: 64 MiB in float32."""
MAX_EVENTS_AT_ONCE = 2**17
"""Events, padding included, that a model is shown at a time: what it computes of them takes
hundreds of times their own memory."""


class Histories(Protocol):
    """What a model sees of one batch: the last events of each history, right-padded with 0."""

    @property
    def item_ids(self) -> np.ndarray: ...

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def times(self) -> np.ndarray: ...


class RankableSplit(Protocol):
    """The part of an evaluation split that ranking reads."""

    @property
    def targets(self) -> np.ndarray: ...


class RankableData(Protocol):
    """The part of prepared data that ranking reads."""

    @property
    def num_items(self) -> int: ...

    def histories(self, split: Any, index: np.ndarray, max_len: int) -> Histories: ...

    def seen_items(self, split: Any, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class RankedSplit:
    """Ranks of one model on one split, in the order of the split's examples.

    Attributes:
        ranks: int64 (E,), 1-based among all real items; num_items + 1 for a cold target.
            Seen-filtered where `filter_seen="yes"` was asked for, otherwise unfiltered.
        seen_filtered_ranks: int64 (E,) from the same scores; only with `filter_seen="both"`.
        top_items: int64 (E, top_k), best first, 0 = no item left; None where top_k is 0.
        seen_filtered_top_items: the same lists without items of the history; only with "both".
    """

    ranks: np.ndarray
    seen_filtered_ranks: np.ndarray | None = None
    top_items: np.ndarray | None = None
    seen_filtered_top_items: np.ndarray | None = None


def rank_split(
    score: ScoreFunction,
    data: RankableData,
    split: RankableSplit,
    *,
    max_len: int,
    batch_size: int = 512,
    filter_seen: FilterSeen = "no",
    top_k: int = 0,
    device: str | torch.device = "cpu",
) -> RankedSplit:
    """Rank every target of a split among all real items.

    Args:
        score: scores of one batch; called under `torch.inference_mode`. A module should be in
            eval mode.
        data: prepared data; gives the histories and the items each user has seen.
        split: `data.val` or `data.test`.
        max_len: events of a history the model is shown, at least 1. The seen-item filter always
            covers the whole history.
        batch_size: rows scored at once, fewer where the catalogue is so large that a batch would
            pass `MAX_SCORES_AT_ONCE`, or histories so long that it would pass
            `MAX_EVENTS_AT_ONCE`.
        filter_seen: whether items of the history are left out of the ranking, or "both" for both
            rankings from one pass.
        top_k: length of the recommended lists to keep; 0 keeps none.
        device: where inputs are put before `score`.

    Raises:
        ValueError: the scores do not have num_items + 1 columns, or hold NaN.
    """
    num_examples = len(split.targets)
    rows = max(1, min(batch_size, MAX_SCORES_AT_ONCE // (data.num_items + 1)))
    batches = []
    with torch.inference_mode():
        for start in range(0, num_examples, rows):
            index = np.arange(start, min(start + rows, num_examples))
            scores = _score_batch(score, data, split, index, max_len, device)
            targets = torch.from_numpy(np.array(split.targets[index], np.int64)).to(scores.device)
            seen = None
            if filter_seen != "no":
                pairs = data.seen_items(split, index)
                seen = SeenItems(*(torch.as_tensor(p, device=scores.device) for p in pairs))
            batches.append(_rank_batch(scores, targets, seen, filter_seen, top_k))
    return _join(batches, top_k, filter_seen)


def _score_batch(
    score: ScoreFunction,
    data: RankableData,
    split: RankableSplit,
    index: np.ndarray,
    max_len: int,
    device: str | torch.device,
) -> Tensor:
    """Return scores (B, V) of the examples in `index`, after checking their shape."""
    histories = data.histories(split, index, max_len)
    arrays = (histories.item_ids, histories.lengths, histories.times)
    item_ids, lengths, times = (torch.as_tensor(a, device=device) for a in arrays)
    rows = max(1, MAX_EVENTS_AT_ONCE // max(1, item_ids.shape[1]))
    if len(item_ids) <= rows:
        scores = score(item_ids, lengths, times)
    else:
        parts = zip(item_ids.split(rows), lengths.split(rows), times.split(rows), strict=True)
        scores = torch.cat([score(*part) for part in parts])
    expected = (len(index), data.num_items + 1)
    if tuple(scores.shape) != expected:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}; expected {expected}: one row per history, "
            "one column per item id with padding as column 0. Was the model trained on this data?"
        )
    return scores


def _rank_batch(
    scores: Tensor, targets: Tensor, seen: SeenItems | None, filter_seen: FilterSeen, top_k: int
) -> RankedSplit:
    """Rank one batch in every way asked for."""
    first = seen if filter_seen == "yes" else None
    second = filter_seen == "both"
    return RankedSplit(
        ranks=rank_targets(scores, targets, seen=first).cpu().numpy(),
        seen_filtered_ranks=(
            rank_targets(scores, targets, seen=seen).cpu().numpy() if second else None
        ),
        top_items=top_items(scores, top_k, seen=first).cpu().numpy() if top_k else None,
        seen_filtered_top_items=(
            top_items(scores, top_k, seen=seen).cpu().numpy() if top_k and second else None
        ),
    )


def _join(batches: list[RankedSplit], top_k: int, filter_seen: FilterSeen) -> RankedSplit:
    """Concatenate the batches of a split; a split without examples gives empty arrays."""
    second = filter_seen == "both"

    def joined(field: str, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([getattr(batch, field) for batch in batches] or [empty])

    no_ranks, no_lists = np.empty(0, np.int64), np.empty((0, top_k), np.int64)
    return RankedSplit(
        ranks=joined("ranks", no_ranks),
        seen_filtered_ranks=joined("seen_filtered_ranks", no_ranks) if second else None,
        top_items=joined("top_items", no_lists) if top_k else None,
        seen_filtered_top_items=(
            joined("seen_filtered_top_items", no_lists) if top_k and second else None
        ),
    )
