"""Independent float64 forms of the declared losses, on plain logits. Shares no code with training.

Each takes logits of real items (T, num_items), targets 1..num_items and, where negatives are
drawn, the draws; each returns the mean over the T rows, in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tasks.diagnostics.declared import Declared
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.subject import Draws

FULL_LOSSES = ("cross_entropy",)
"""Losses that need no negatives."""


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean of -sum_v q_v ln p_v with q = (1 - smoothing) [v = target] + smoothing / num_items.

    >>> round(cross_entropy(torch.zeros(1, 4).double(), torch.tensor([2])).item(), 6)  # ln 4
    1.386294
    """
    logits = logits.double()
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    hit = log_p.gather(1, targets[:, None] - 1)[:, 0]
    return -((1 - label_smoothing) * hit + label_smoothing * log_p.mean(dim=1)).mean()


def declared_loss(
    logits: Tensor, targets: Tensor, rows: Tensor, declared: Declared, draws: Draws | None
) -> Tensor:
    """Return the declared loss of a batch.

    Args:
        logits: (T, num_items) of the positions asked.
        targets: (T,) encoded items.
        rows: (T,) row of the batch each position stands in.
        declared: Which loss, and its settings.
        draws: Negatives; needed by every loss but the cross-entropy.

    Raises:
        NotApplicableError: The loss is one of the user's own.
    """
    if declared.loss == "cross_entropy":
        return cross_entropy(logits, targets, declared.label_smoothing)
    if declared.loss == "other":
        raise NotApplicableError("the loss is the user's own and has no independent form here")
    assert draws is not None
    return _sampled(logits.double(), targets, rows, declared, draws)


def _sampled(
    logits: Tensor, targets: Tensor, rows: Tensor, declared: Declared, draws: Draws
) -> Tensor:
    group = rows if len(draws.item_ids) > 1 else torch.zeros_like(rows)
    items = draws.item_ids[group]  # (T, K)
    counted = torch.ones_like(items, dtype=torch.bool)
    if declared.collisions != "allow":
        counted &= items != targets[:, None]
    if declared.collisions == "exclude_positives" and draws.is_positive is not None:
        counted &= ~draws.is_positive[rows]
    positive = logits.gather(1, targets[:, None] - 1)  # (T, 1)
    negative = logits.gather(1, items - 1)  # (T, K)
    number = counted.sum(dim=1)
    if declared.loss == "sampled_softmax":
        corrected = negative - draws.log_q.double()[group] - math.log(items.shape[1])
        corrected = corrected.masked_fill(~counted, -math.inf)
        total = torch.logsumexp(torch.cat([positive, corrected], dim=1), dim=1)
        return (total - positive[:, 0]).mean()
    if declared.loss == "bpr":
        pairs = -log_sigmoid(positive - negative) * counted
        return (pairs.sum(dim=1) / number.clamp(min=1)).mean()
    beta = 1.0 if declared.loss == "bce" else _gbce_exponent(logits.shape[1], items, declared)
    wrong = (-log_sigmoid(-negative) * counted).sum(dim=1)
    return ((-beta * log_sigmoid(positive)[:, 0] + wrong) / (1 + number)).mean()


def log_sigmoid(x: Tensor) -> Tensor:
    """ln(1 / (1 + e^-x)) without overflow: -max(-x, 0) - ln(1 + e^-|x|).

    >>> log_sigmoid(torch.tensor([0.0, -1000.0])).tolist()
    [-0.6931471824645996, -1000.0]
    """
    return -(-x).clamp(min=0) - torch.log1p(torch.exp(-x.abs()))


def _gbce_exponent(num_items: int, items: Tensor, declared: Declared) -> float:
    """Petrov and Macdonald 2023: beta = a (t (1 - 1/a) + 1/a), a = K / (num_items - 1)."""
    rate = min(1.0, items.shape[1] / (num_items - 1))
    t = declared.gbce_calibration
    return rate * (t * (1 - 1 / rate) + 1 / rate)
