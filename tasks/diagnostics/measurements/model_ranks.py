"""Ranks a model gives to held-out targets, counted here from the program's own scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.subject import Batch
from tasks.diagnostics.untouched import untouched

SCORES_AT_ONCE = 2**22
Change = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(item_ids (B, S), lengths (B,), times (B, S)) -> other items and times."""


def model_ranks(
    probe: Probe,
    model: nn.Module,
    split: EvaluationSplit,
    index: np.ndarray,
    change: Change | None = None,
) -> np.ndarray:
    """Return 1-based ranks among all real items, ties worst; cold targets after the last.

    Histories and scores are the program's; comparing and counting is done here.

    Args:
        probe: Of the program.
        model: Module with the weights to score with.
        split: `data.val` or `data.test`.
        index: Examples.
        change: Applied to histories before scoring.

    Raises:
        NotMeasuredError: A score is not finite.
    """
    data = probe.data
    rows = max(1, min(256, SCORES_AT_ONCE // (data.num_items + 1)))
    ranks = []
    with untouched(), torch.no_grad():
        for start in range(0, len(index), rows):
            part = index[start : start + rows]
            item_ids, lengths, times = histories(probe, split, part)
            if change is not None:
                item_ids, times = change(item_ids, lengths, times)
            scores = last_scores(probe, model, item_ids, lengths, times)
            targets = torch.as_tensor(np.asarray(split.targets)[part])
            known = targets > 0
            own = scores.gather(1, (targets - 1).clamp(min=0)[:, None])
            rank = (scores >= own).sum(dim=1)
            ranks.append(torch.where(known, rank, data.num_items + 1).numpy())
    return np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64)


def histories(
    probe: Probe, split: EvaluationSplit, index: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the program shows a model: items (B, S), lengths (B,), times (B, S)."""
    limit = probe.subject.declared.max_seq_len
    if probe.subject.make_histories is None:
        found = probe.data.histories(split, index, limit)
    else:
        found = probe.ask("make_histories", probe.data, split, index, limit)
    item_ids, lengths, times = (torch.as_tensor(np.asarray(part)) for part in found)
    return item_ids, lengths, times


def last_scores(
    probe: Probe, model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor
) -> Tensor:
    """Return scores of real items after each history, float (B, num_items).

    By the program's `score`; where it has none, by its logits at the last real position.
    """
    if probe.subject.score is not None:
        scores = probe.ask("score", model, item_ids, lengths, times)
        expected = (len(item_ids), probe.data.num_items + 1)
        if tuple(scores.shape) != expected:
            raise SubjectError("score", f"returned {tuple(scores.shape)}; expected {expected}")
        scores = scores[:, 1:]
    else:
        mask = item_ids > 0
        batch = Batch(item_ids, torch.ones_like(item_ids), mask, times)
        places = torch.arange(item_ids.shape[1]).expand_as(item_ids)
        last = torch.where(mask, places, 0).amax(dim=1)
        scores = probe.logits(model, batch)[torch.arange(len(last)), last, 1:]
    if not bool(torch.isfinite(scores[lengths > 0]).all()):
        raise NotMeasuredError("finite scores; see question weights_move_and_stay_finite")
    return scores
