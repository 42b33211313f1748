"""A learned bias on the scores of items that are already in the history.

Whether people come back to an item is a property of the domain: nobody rates a film twice, many
buy the same thing every week. A dot product of a hidden state with D numbers can't remember which
of V items a history holds; two learned numbers, one for the newest event's item and one for items
of earlier events, say it directly. With both at zero, where they start, scores are as without.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xlstm_model.padding import PADDING_ID

NEWEST, EARLIER = 0, 1
"""Places of the two numbers in ``RepeatBias.bias``."""

NATS_PER_UNIT = 10.0
"""Scores move by this much per unit of the parameter. Adam moves a parameter by about the learning
rate a step, whatever its gradient; where repeats never happen the bias has to travel many nats
within a few hundred steps."""


class Repeats(NamedTuple):
    """Items of a history as seen from T positions; each item appears once per position.

    ``newest`` int64 (T, 1) is the item at the position; ``earlier`` int64 (T, S) holds the other
    items of the history up to it, 0 where there is none.
    """

    newest: Tensor
    earlier: Tensor


def next_occurrence(item_ids: Tensor) -> Tensor:
    """Column of the next event with the same item, S where there is none, int64 (B, S).

    >>> next_occurrence(torch.tensor([[7, 5, 7, 7]]))
    tensor([[2, 4, 3, 4]])
    """
    length = item_ids.shape[1]
    ordered, order = item_ids.sort(dim=1, stable=True)
    following = torch.full_like(order, length)
    same = ordered[:, :-1] == ordered[:, 1:]
    following[:, :-1] = torch.where(same, order[:, 1:], length)
    return torch.empty_like(order).scatter_(1, order, following)


def repeats_at(item_ids: Tensor, rows: Tensor, columns: Tensor, window: int) -> Repeats:
    """What each position's history holds.

    Args:
        item_ids: int64 (B, S), 0 at padding on either side.
        rows: int64 (T,), row of each position.
        columns: int64 (T,), column of each position.
        window: Events looked back on, the position's own included, ≥ 1.

    >>> found = repeats_at(torch.tensor([[7, 5, 7, 0]]), torch.tensor([0]), torch.tensor([2]), 9)
    >>> found.newest.tolist(), found.earlier.tolist()
    ([[7]], [[0, 5, 0, 0]])
    """
    places = torch.arange(item_ids.shape[1], device=item_ids.device)
    at = columns[:, None]
    # The last occurrence up to the position stands for its item; the position's own is `newest`.
    counts = (places < at) & (places > at - window) & (next_occurrence(item_ids)[rows] > at)
    return Repeats(item_ids[rows, columns][:, None], item_ids[rows] * counts)


def repeats_everywhere(item_ids: Tensor, window: int) -> Repeats:
    """What the history holds at every position, row by row: T = B · S.

    Args:
        item_ids: int64 (B, S), 0 at padding on either side.
        window: Events looked back on, ≥ 1.

    >>> repeats_everywhere(torch.tensor([[7, 5]]), 9).earlier.tolist()
    [[0, 0], [7, 0]]
    """
    rows, columns = (torch.arange(size, device=item_ids.device) for size in item_ids.shape)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return repeats_at(item_ids, *(places.reshape(-1) for places in grid), window)


def repeats_at_the_end(item_ids: Tensor) -> Repeats:
    """What the history holds after its last column, where its newest event stands: T = B.

    Args:
        item_ids: int64 (B, W), newest last, 0 where there is none.

    >>> repeats_at_the_end(torch.tensor([[0, 7, 5]])).earlier.tolist()
    [[0, 7, 0]]
    """
    rows = torch.arange(item_ids.shape[0], device=item_ids.device)
    window = item_ids.shape[1]
    return repeats_at(item_ids, rows, torch.full_like(rows, window - 1), window)


class RepeatBias(nn.Module):
    """Adds the learned bias, ``NATS_PER_UNIT`` times its parameter, to scores.

    Args:
        window: Events looked back on, ≥ 1; at least the longest training window.

    >>> repeats = RepeatBias(window=10)
    >>> with torch.no_grad(): _ = repeats.weight.copy_(torch.tensor([-0.2, 0.1]))
    >>> repeats(torch.zeros(1, 4), Repeats(torch.tensor([[3]]), torch.tensor([[1, 0]])))
    tensor([[ 0.,  1.,  0., -2.]], grad_fn=<ScatterAddBackward0>)
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window is {window}; expected at least 1 event to look back on.")
        self.window = window
        self.weight = nn.Parameter(torch.zeros(2))

    @property
    def bias(self) -> Tensor:
        """What is added to scores, in nats: for the newest item, for earlier ones, (2,)."""
        return NATS_PER_UNIT * self.weight

    def forward(self, scores: Tensor, repeats: Repeats) -> Tensor:
        """Scores (T, V) with the bias added; column 0 keeps its value where it is −∞ or 0."""
        index, values = self.additions(repeats)
        return scores.scatter_add(1, index, values.to(scores.dtype))

    def additions(self, repeats: Repeats) -> tuple[Tensor, Tensor]:
        """Items (T, 1 + S) and what to add to their scores; 0 is added to padding."""
        index = torch.cat(repeats, dim=1)
        bias = self.bias
        kinds = torch.cat([bias[:1], bias[1:].expand(index.shape[1] - 1)])
        return index, torch.where(index == PADDING_ID, 0.0, kinds)

    def of_items(self, item_ids: Tensor, repeats: Repeats) -> Tensor:
        """What to add to the scores of chosen items, (T, K).

        Args:
            item_ids: int64 (T, K), or (K,) for the same items everywhere.
            repeats: Of the T positions.
        """
        chosen = item_ids if item_ids.dim() == 2 else item_ids[None]
        is_newest = chosen == repeats.newest
        is_earlier = (chosen[:, :, None] == repeats.earlier[:, None, :]).any(-1)
        is_earlier = is_earlier & (chosen != PADDING_ID)
        bias = self.bias
        return bias[NEWEST] * is_newest + bias[EARLIER] * (is_earlier & ~is_newest)


def recent_after(recent: Tensor, item_ids: Tensor, mask: Tensor) -> Tensor:
    """The last W items after more events, int64 (B, W), newest last, 0 where there are fewer.

    Args:
        recent: int64 (B, W), the items so far in the same form.
        item_ids: int64 (B, S), the events that follow.
        mask: Bool (B, S), which of them are real.

    >>> real = torch.tensor([[True, False]])
    >>> recent_after(torch.tensor([[0, 4, 5]]), torch.tensor([[7, 9]]), real)
    tensor([[4, 5, 7]])
    """
    together = torch.cat([recent, item_ids * mask], dim=1)
    window = recent.shape[1]
    rank = (together != PADDING_ID).cumsum(1)
    column = window - rank[:, -1:] + rank - 1
    # Padding, and events too old to be kept, go to a last column that is cut off.
    dropped = (together == PADDING_ID) | (column < 0)
    kept = together.new_zeros(together.shape[0], window + 1)
    return kept.scatter(1, torch.where(dropped, window, column), together)[:, :window]
