"""Ranks among sampled negatives: only for comparison with papers that report nothing else.

Such metrics are inconsistent: they change the order of models (Krichene and Rendle, KDD 2020), and
the numbers are several times larger than full-ranking ones. No other module calls this one unless
asked to, and its metric names carry the number of negatives so that they can't be mistaken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.evaluation.ranking import COLD_TARGET, check_scores, check_targets


def sampled_metric_name(metric: str, num_negatives: int) -> str:
    """Return the name under which a sampled metric may be reported.

    Example:
        >>> sampled_metric_name("ndcg_at_10", 100)
        'ndcg_at_10_among_100_sampled'
    """
    return f"{metric}_among_{num_negatives}_sampled"


def draw_uniform_negatives(
    targets: Tensor, num_items: int, num_negatives: int, *, seed: int
) -> Tensor:
    """Draw negatives uniformly, with replacement, from all real items but the target.

    Args:
        targets: (B,) int64 in [1, num_items], or -1.
        num_items: items in the catalogue, at least 2.
        num_negatives: draws per row, at least 1.
        seed: seed of the draw.

    Returns:
        int64 (B, num_negatives) in [1, num_items], never the row's target.

    Raises:
        ValueError: too few items or negatives.
    """
    if num_items < 2 or num_negatives < 1:
        raise ValueError(
            f"num_items is {num_items} and num_negatives {num_negatives}; "
            "expected at least 2 and 1."
        )
    generator = torch.Generator().manual_seed(seed)
    size = (targets.shape[0], num_negatives)
    draws = torch.randint(1, num_items, size, generator=generator)  # one id short: the target's
    is_cold = targets.cpu() == COLD_TARGET
    shifted = draws + (draws >= targets.cpu()[:, None])
    return torch.where(is_cold[:, None], draws, shifted).to(targets.device)


def rank_among_sampled_negatives(scores: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Return the 1-based rank of each target among its negatives, ties worst.

    Args:
        scores: (B, V) floating, NaN-free.
        targets: (B,) int64 in [1, V), or -1.
        negatives: (B, N) int64 in [1, V).

    Returns:
        int64 (B,) in [1, N + 1]; N + 2 for a target of -1.

    Raises:
        ValueError: negatives are not (B, N) real items.

    Example:
        >>> scores = torch.tensor([[0.0, 0.1, 0.7, 0.5, 0.9]])
        >>> rank_among_sampled_negatives(scores, torch.tensor([3]), torch.tensor([[1, 2]])).tolist()
        [2]
    """
    check_scores(scores)
    check_targets(targets, *scores.shape)
    if negatives.ndim != 2 or bool(((negatives < 1) | (negatives >= scores.shape[1])).any()):
        raise ValueError(
            f"negatives of shape {tuple(negatives.shape)} hold ids outside "
            f"1..{scores.shape[1] - 1}; expected (B, N) real items."
        )
    target_scores = scores.gather(1, targets.clamp(min=0)[:, None])
    ranks = 1 + (scores.gather(1, negatives) >= target_scores).sum(dim=1)
    return torch.where(targets == COLD_TARGET, negatives.shape[1] + 2, ranks)
