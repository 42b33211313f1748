"""Losses on scores. Each is the mean over its rows; masking happens before, by choosing rows.

N counts valid positions, K negatives. Column 0 of logits is padding and takes no part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over all real items (Boltzmann log-likelihood).

    Args:
        logits: (N, V) floating, column 0 ignored.
        targets: (N,) int64 in 1..V-1.
        label_smoothing: share of the target probability spread evenly over the real items.

    Returns:
        Scalar, in nats.

    >>> logits = torch.tensor([[float("-inf"), 0.0, 0.0]])
    >>> round(cross_entropy(logits, torch.tensor([2])).item(), 4)  # ln 2
    0.6931
    """
    _check_targets(targets, logits.shape[1])
    return F.cross_entropy(logits[:, 1:], targets - 1, label_smoothing=label_smoothing)


def sampled_softmax(
    positive: Tensor, negative: Tensor, negative_log_q: Tensor, valid: Tensor
) -> Tensor:
    """Cross-entropy whose normaliser is estimated from drawn negatives.

    With K draws from q, the sum of exp(score) over the drawn items, each divided by K q, is an
    unbiased estimate of the sum over the catalogue without the items ``valid`` excludes; the
    target's own term is exact. With target collisions excluded and every item drawn once
    (q = 1/K over K items) this *is* the cross-entropy (Bengio and Senécal 2008).

    Args:
        positive: (N,) score of the target.
        negative: (N, K) scores of the negatives.
        negative_log_q: ln of the probability of drawing each negative, broadcast to (N, K).
        valid: bool, broadcast to (N, K); False leaves a negative out.

    Returns:
        Scalar, in nats; rows without a valid negative give 0.

    >>> one = torch.ones(1, 1, dtype=torch.bool)
    >>> sampled_softmax(torch.zeros(1), torch.zeros(1, 1), torch.zeros(1, 1), one).item() # ln 2
    0.6931471824645996
    """
    num_drawn = negative.shape[1]
    corrected = negative - negative_log_q - torch.log(torch.tensor(float(num_drawn)))
    corrected = corrected.masked_fill(~valid, -torch.inf)
    scores = torch.cat([positive[:, None], corrected], dim=1)
    return (scores.logsumexp(dim=1) - positive).mean()


def bpr(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """Bayesian personalised ranking: -ln sigmoid(positive - negative) (Rendle et al. 2009).

    Args:
        positive: (N,) score of the target.
        negative: (N, K) scores of the negatives.
        valid: bool, broadcast to (N, K); False leaves a negative out.

    Returns:
        Scalar: mean over rows of the mean over valid negatives; rows without any give 0.

    >>> one = torch.ones(1, 1, dtype=torch.bool)
    >>> round(bpr(torch.zeros(1), torch.zeros(1, 1), one).item(), 4)  # ln 2
    0.6931
    """
    pairs = F.softplus(negative - positive[:, None])
    weights = valid.to(pairs.dtype).expand_as(pairs)
    return ((pairs * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).mean()


def bce(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy: targets should score 1, negatives 0 (Kang and McAuley 2018).

    Args:
        positive: (N,) score of the target.
        negative: (N, K) scores of the negatives.
        valid: bool, broadcast to (N, K); False leaves a negative out.

    Returns:
        Scalar: mean over rows of the mean over the target and its valid negatives.

    >>> one = torch.ones(1, 1, dtype=torch.bool)
    >>> round(bce(torch.zeros(1), torch.zeros(1, 1), one).item(), 4)  # ln 2
    0.6931
    """
    return gbce(positive, negative, valid, beta=1.0)


def gbce(positive: Tensor, negative: Tensor, valid: Tensor, *, beta: float) -> Tensor:
    """Generalised binary cross-entropy: the target's probability is sigmoid(score) ** beta.

    Raising it to a power below 1 undoes the overconfidence that few negatives cause (Petrov and
    Macdonald 2023, eq. 11). ``beta = 1`` is plain binary cross-entropy.

    Args:
        positive: (N,) score of the target.
        negative: (N, K) scores of the negatives.
        valid: bool, broadcast to (N, K); False leaves a negative out.
        beta: exponent, above 0; see `gbce_beta`.

    Returns:
        Scalar: mean over rows of the mean over the target and its valid negatives.
    """
    weights = valid.to(negative.dtype).expand_as(negative)
    negatives = (F.softplus(negative) * weights).sum(dim=1)
    return ((beta * F.softplus(-positive) + negatives) / (1 + weights.sum(dim=1))).mean()


def gbce_beta(num_negatives: int, num_items: int, calibration: float) -> float:
    """Exponent of gBCE for a sampling rate and calibration t (Petrov and Macdonald 2023, eq. 14).

    Args:
        num_negatives: negatives per target, 1..num_items - 1.
        num_items: items in the catalogue, at least 2.
        calibration: t in 0..1; 0 gives plain BCE, 1 fully corrects for the sampling.

    >>> gbce_beta(num_negatives=10, num_items=101, calibration=1.0)
    0.1
    >>> gbce_beta(num_negatives=10, num_items=101, calibration=0.0)
    1.0
    """
    rate = min(1.0, num_negatives / (num_items - 1))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def _check_targets(targets: Tensor, width: int) -> None:
    # Looking at values would stop a GPU at every step.
    if targets.device.type != "cpu" or targets.numel() == 0:
        return
    lowest, highest = int(targets.min()), int(targets.max())
    if lowest < 1 or highest >= width:
        raise ValueError(
            f"targets reach from {lowest} to {highest}; expected 1..{width - 1} (0 is padding). "
            "Choose the valid positions with the batch's mask first."
        )
