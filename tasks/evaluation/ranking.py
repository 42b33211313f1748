"""From scores to ranks: where the held-out item stands among all real items.

Ties are ranked worst: the rank of a target is the number of real items whose score is at least the
target's, itself included. A model that scores everything alike therefore ranks every target last
instead of first, and rounding scores to fewer digits can only hurt.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

COLD_TARGET = -1
"""Target id of an item outside the vocabulary."""


class SeenItems(NamedTuple):
    """Pairs (row of the batch, item id) of everything in the histories; duplicates allowed.

    Attributes:
        rows: int64 (P,), each in [0, B).
        items: int64 (P,), each in [1, V).
    """

    rows: Tensor
    items: Tensor


def rank_targets(scores: Tensor, targets: Tensor, *, seen: SeenItems | None = None) -> Tensor:
    """Return the 1-based rank of each target among all real items, ties worst.

    The padding column 0 never takes a place, whatever its score. With `seen`, items of the
    history take no place either, except the target itself: where a user comes back to an item,
    the filter must not make the right answer unreachable.

    Args:
        scores: (B, V) floating; higher is better; -inf and +inf allowed, NaN not.
        targets: (B,) int64 in [1, V), or -1 for an item outside the vocabulary.
        seen: pairs to leave out of the ranking; None ranks the whole catalogue.

    Returns:
        int64 (B,) in [1, V - 1]; V for a target of -1: behind every real item, so a miss at
        every cut-off K < V.

    Raises:
        ValueError: scores hold NaN, or shapes or target ids do not fit.

    Example:
        >>> scores = torch.tensor([[9.0, 0.1, 0.7, 0.7], [9.0, 0.3, 0.2, 0.1]])
        >>> rank_targets(scores, torch.tensor([2, 1])).tolist()
        [2, 1]
        >>> seen = SeenItems(rows=torch.tensor([0]), items=torch.tensor([3]))
        >>> rank_targets(scores, torch.tensor([2, -1]), seen=seen).tolist()
        [1, 4]
    """
    check_scores(scores)
    num_rows, width = scores.shape
    check_targets(targets, num_rows, width)
    is_cold = targets == COLD_TARGET
    column = targets.clamp(min=0)
    beats = scores >= scores.gather(1, column[:, None])  # (B, V)
    beats[:, 0] = False
    if seen is not None:
        beats[seen.rows, seen.items] = False
        beats[torch.arange(num_rows, device=beats.device), column] = True
    return torch.where(is_cold, width, beats.sum(dim=1))


def top_items(scores: Tensor, k: int, *, seen: SeenItems | None = None) -> Tensor:
    """Return the k best real items of each row, best first.

    With `seen`, every item of the history is left out, as a shop that filters would do: unlike
    `rank_targets`, a list is made without knowing the target.

    Args:
        scores: (B, V) floating, NaN-free.
        k: length of the lists, at least 1.
        seen: pairs to leave out.

    Returns:
        int64 (B, min(k, V - 1)); 0 where no item with a score above -inf is left.

    Raises:
        ValueError: k is below 1, or scores are NaN or of another shape.

    Example:
        >>> top_items(torch.tensor([[9.0, 0.1, 0.7, 0.5]]), 2).tolist()
        [[2, 3]]
    """
    check_scores(scores)
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1 recommended item per list.")
    real = scores[:, 1:]
    if seen is not None:
        real = real.clone()
        real[seen.rows, seen.items - 1] = -torch.inf
    values, columns = real.topk(min(k, real.shape[1]), dim=1)
    return torch.where(values == -torch.inf, 0, columns + 1)


def check_scores(scores: Tensor) -> None:
    """Refuse score matrices no ranking can be read from.

    Raises:
        ValueError: not (B, V >= 2), or NaN inside; the message names the first such cell.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}; expected (B, V) with V at least 2 "
            "(column 0 is padding). Return one row of scores per history."
        )
    is_nan = torch.isnan(scores)
    if bool(is_nan.any()):
        row, column = (int(i) for i in is_nan.nonzero()[0])
        raise ValueError(
            f"{int(is_nan.sum())} of {scores.numel()} scores are NaN, the first at row {row}, "
            f"item {column}; every comparison with NaN is false, so ranks would look perfect. "
            "Find where the model produces NaN (an empty history, a masked row, a diverged loss)."
        )


def check_targets(targets: Tensor, num_rows: int, width: int) -> None:
    """Refuse targets that are not one id of [1, V) or -1 per row.

    Raises:
        ValueError: wrong shape, or an id outside the catalogue (0 is padding).
    """
    if targets.shape != (num_rows,):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; expected ({num_rows},), one per row."
        )
    is_valid = ((targets >= 1) & (targets < width)) | (targets == COLD_TARGET)
    if not bool(is_valid.all()):
        wrong = int(targets[~is_valid][0])
        raise ValueError(
            f"target {wrong} is no item; expected 1..{width - 1}, or -1 for an item outside the "
            "vocabulary (0 is padding). Check that model and data share one vocabulary."
        )
