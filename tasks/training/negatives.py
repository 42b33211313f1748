"""Negatives: items a user did not choose next, drawn from a declared distribution.

A drawn item that collides with what the user did choose is never drawn again: it stays in place
and is marked invalid, and the losses leave it out. The draws therefore follow the declared
distribution exactly, whatever the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Distribution = Literal["uniform", "popularity"]
Scope = Literal["user", "global"]
CollisionPolicy = Literal["allow", "exclude_target", "exclude_positives"]


@dataclass(frozen=True)
class Negatives:
    """Drawn items of one batch.

    Attributes:
        item_ids: (G, K) int64; G is B where each user has a set, or 1 where the batch shares one.
        log_q: (G, K) float32, ln of the probability with which each was drawn.
        is_positive: (B, K) bool, the user has the item among the training events; None unless the
            policy excludes these.
    """

    item_ids: Tensor
    log_q: Tensor
    is_positive: Tensor | None


def item_distribution(
    num_items: int,
    distribution: Distribution,
    counts: np.ndarray | None = None,
    exponent: float = 1.0,
) -> np.ndarray:
    """Probability of drawing each item.

    Args:
        num_items: items in the catalogue.
        distribution: ``uniform``, or ``popularity``: proportional to counts ** exponent.
        counts: (num_items + 1,) training events per item, entry 0 ignored; for ``popularity``.
        exponent: 0 is uniform over items seen at least once (Mikolov et al. 2013 use 0.75).

    Returns:
        (num_items + 1,) float64, sums to 1, entry 0 is 0.

    Raises:
        ValueError: counts are missing, of another length, or all 0.

    >>> item_distribution(3, "popularity", np.array([0, 9, 0, 1]), exponent=0.5).tolist()
    [0.0, 0.75, 0.0, 0.25]
    """
    weights = np.ones(num_items + 1)
    if distribution == "popularity":
        if counts is None or len(counts) != num_items + 1:
            raise ValueError(
                f"counts has {0 if counts is None else len(counts)} entries; expected "
                f"{num_items + 1} training counts (item 0 is padding) for 'popularity' negatives."
            )
        counts = np.asarray(counts, dtype=np.float64)
        weights = np.where(counts > 0, np.maximum(counts, 1.0) ** exponent, 0.0)
    weights[0] = 0.0
    if weights.sum() == 0:
        raise ValueError("no item has a training event; expected at least one to draw from.")
    return weights / weights.sum()


class NegativeSampler:
    """Draws negatives for batches; holds no random state of its own.

    Args:
        probabilities: (V,) from `item_distribution`.
        num_negatives: K, at least 1.
        scope: a set per ``user`` (row of the batch), or one ``global`` set for the batch.
        collisions: ``allow`` them, ``exclude_target`` (a negative that is the position's own
            target is left out there), or ``exclude_positives`` (so are all the user's items).
        items: (N,) training items, for ``exclude_positives``.
        offsets: (U + 1,) of the training sequences, for ``exclude_positives``.
        device: where draws are made.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        *,
        num_negatives: int,
        scope: Scope = "global",
        collisions: CollisionPolicy = "exclude_target",
        items: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives is {num_negatives}; expected at least 1.")
        self.num_negatives = num_negatives
        self.scope = scope
        self.collisions = collisions
        self.device = torch.device(device)
        self.num_items = len(probabilities) - 1
        self.probabilities = torch.from_numpy(np.array(probabilities, dtype=np.float64)).to(device)
        self._cumulative = self.probabilities.cumsum(0)
        self._log_q = self.probabilities.log().float()
        self._positive_keys: Tensor | None = None
        if collisions == "exclude_positives":
            if items is None or offsets is None:
                raise ValueError(
                    "collisions is 'exclude_positives' without items and offsets; expected the "
                    "training sequences, whose items are to be excluded."
                )
            users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            keys = np.unique(users * len(probabilities) + np.asarray(items, dtype=np.int64))
            self._positive_keys = torch.from_numpy(keys).to(device)

    def draw(self, users: Tensor, seed: int) -> Negatives:
        """Draws for one batch.

        Args:
            users: (B,) int64, training sequence of each row.
            seed: the same seed gives the same draws.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        groups = len(users) if self.scope == "user" else 1
        uniform = torch.rand(
            (groups, self.num_negatives),
            generator=generator,
            device=self.device,
            dtype=torch.float64,
        )
        # Inverse transform; the last entry is scaled away from 1 so that rounding in the running
        # sum can't point behind the catalogue.
        item_ids = torch.searchsorted(self._cumulative, uniform * self._cumulative[-1], right=True)
        item_ids = item_ids.clamp_(max=self.num_items)
        is_positive = None
        if self._positive_keys is not None:
            keys = users[:, None] * (self.num_items + 1) + item_ids  # (B, K)
            found = torch.searchsorted(self._positive_keys, keys)
            found = found.clamp_(max=len(self._positive_keys) - 1)
            is_positive = self._positive_keys[found] == keys
        return Negatives(item_ids, self._log_q[item_ids], is_positive)
