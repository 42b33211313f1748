"""One training of a peer: epochs until validation stops improving, then the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.evaluation.evaluate import rank_split
from tasks.evaluation.metrics import hit_rate, ndcg

K = 10
DEEPEST = 20
"""Ranks below this one are told apart no more where ranks are kept."""
ROWS_AT_ONCE = 2048


class Training(Protocol):
    """A peer in the middle of being trained."""

    model: nn.Module

    def epoch(self) -> None:
        """Pass over the training data once."""

    def scorer(self, split: EvaluationSplit) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Scores (B, V) of consecutive batches of a split's histories."""


@dataclass(frozen=True)
class Rules:
    """When a training ends.

    Attributes:
        max_epochs: Passes over the data at most.
        patience: Epochs without a better validation NDCG@10.
        until: `time.time` at which it is cut off.
    """

    max_epochs: int
    patience: int
    until: float = math.inf


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Attributes:
        value: Best validation NDCG@10.
        best_epoch: Its epoch, from 1; the weights are those.
        epochs: Epochs made.
        stopped: `patience`, `max_epochs` or `time`.
        seconds: Wall time, validation included.
    """

    value: float
    best_epoch: int
    epochs: int
    stopped: str
    seconds: float


def fit(
    training: Training,
    validate: Callable[[], float],
    rules: Rules,
    tell: Callable[[int, float], None] = lambda epoch, value: None,
) -> Fitted:
    """Train until the rules end it and leave the best weights.

    Args:
        training: What is trained.
        validate: NDCG@10 now.
        rules: When to stop.
        tell: Told of every epoch; may raise to end a hopeless training.
    """
    start, value = time.time(), 0.0
    best, best_epoch, weights, stopped, epoch = -math.inf, 0, None, "max_epochs", 0
    for epoch in range(1, rules.max_epochs + 1):
        training.model.train()
        training.epoch()
        training.model.eval()
        value = validate()
        if value > best:
            best, best_epoch = value, epoch
            weights = {n: t.detach().clone() for n, t in training.model.state_dict().items()}
        tell(epoch, value)
        if epoch - best_epoch >= rules.patience:
            stopped = "patience"
            break
        if time.time() >= rules.until:
            stopped = "time"
            break
    training.model.load_state_dict(weights)
    return Fitted(best, best_epoch, epoch, stopped, round(time.time() - start, 1))


def ranks_of(
    training: Training,
    data: PreparedData,
    split: EvaluationSplit,
    max_len: int,
    device: torch.device,
) -> np.ndarray:
    """Ranks (E,) of a split's targets among all items, ties worst, nothing filtered."""
    training.model.eval()
    ranked = rank_split(
        training.scorer(split),
        data,
        split,
        max_len=max_len,
        batch_size=ROWS_AT_ONCE,
        device=device,
    )
    return ranked.ranks


def mean_ndcg(ranks: np.ndarray) -> float:
    """NDCG@10 over users."""
    return float(ndcg(ranks, K).mean())


def mean_hits(ranks: np.ndarray) -> float:
    """HR@10 over users."""
    return float(hit_rate(ranks, K).mean())


def write_ranks(ranks: np.ndarray) -> str:
    """Ranks as one letter a user: a for the first, t for the 20th, u for all below.

    >>> write_ranks(np.array([1, 2, 20, 21, 1000]))
    'abtuu'
    """
    clipped = np.minimum(np.asarray(ranks), DEEPEST + 1)
    return bytes((clipped + ord("a") - 1).astype(np.uint8)).decode()


def read_ranks(text: str) -> np.ndarray:
    """What `write_ranks` wrote, int64 (E,).

    >>> read_ranks("abtu").tolist()
    [1, 2, 20, 21]
    """
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64) - ord("a") + 1


def count_parameters(model: nn.Module) -> int:
    """Trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


Settings = dict[str, Any]
