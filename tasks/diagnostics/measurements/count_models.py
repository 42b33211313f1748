"""Popularity and item transitions by plain counting, independent of the pipeline's baselines.

Ids outside 1..num_items are left out, so that spoiled preparations can be counted too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tasks.data.prepared import EvaluationSplit, PreparedData

PRIOR = 1.0
"""Weight of popularity beside the transitions of an item, in events: observed ones come first."""

SCORES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Counts:
    """What can be learned by counting.

    Attributes:
        popularity: (V,) float64, (events + 1) / (all events + items); entry 0 is 0.
        transitions: CSR (V, V) float64, direct successions within a sequence.
    """

    popularity: np.ndarray
    transitions: sparse.csr_matrix

    @property
    def num_items(self) -> int:
        """Real items."""
        return len(self.popularity) - 1


def count(items: np.ndarray, offsets: np.ndarray, num_items: int) -> Counts:
    """Count events and direct successions of packed sequences.

    >>> found = count(np.array([1, 2, 1, 2]), np.array([0, 2, 4]), 2)
    >>> found.transitions.toarray()[1].tolist(), found.popularity.tolist()
    ([0.0, 0.0, 2.0], [0.0, 0.5, 0.5])
    """
    items = np.asarray(items, dtype=np.int64)
    known = (items >= 1) & (items <= num_items)
    events = np.bincount(items[known], minlength=num_items + 1).astype(float)
    popularity = (events + 1.0) / (events.sum() + num_items)
    popularity[0] = 0.0
    follows = np.ones(len(items), dtype=bool)
    starts = np.asarray(offsets)[:-1]
    follows[starts[starts < len(items)]] = False
    second = np.flatnonzero(follows & known)
    second = second[known[second - 1]]
    pairs = (items[second - 1], items[second])
    shape = (num_items + 1, num_items + 1)
    table = sparse.csr_matrix((np.ones(len(second)), pairs), shape=shape)
    table.sum_duplicates()
    return Counts(popularity, table)


def popularity_ranks(counts: Counts, targets: np.ndarray) -> np.ndarray:
    """Return the rank of every target by popularity, ties worst; cold ones after the last.

    >>> found = count(np.array([1, 1, 2]), np.array([0, 3]), 3)
    >>> popularity_ranks(found, np.array([1, 3, -1])).tolist()
    [1, 3, 4]
    """
    ordered = np.sort(counts.popularity[1:])
    known = targets > 0
    own = counts.popularity[np.where(known, targets, 1)]
    at_least = counts.num_items - np.searchsorted(ordered, own, side="left")
    return np.where(known, at_least, counts.num_items + 1)


def transition_ranks(counts: Counts, last_items: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of every target after its user's last item, ties worst.

    The score of j after i is n_ij + PRIOR * popularity_j. Without a known last item the rank is
    that by popularity.

    >>> found = count(np.array([1, 2, 1, 2, 3]), np.array([0, 2, 5]), 3)
    >>> transition_ranks(found, np.array([1, 2]), np.array([2, 3])).tolist()
    [1, 1]
    """
    ranks = np.full(len(targets), counts.num_items + 1, dtype=np.int64)
    block = max(1, SCORES_AT_ONCE // (counts.num_items + 1))
    last_items = np.where((last_items < 0) | (last_items > counts.num_items), 0, last_items)
    for start in range(0, len(targets), block):
        rows = slice(start, start + block)
        scores = counts.transitions[last_items[rows]].toarray() + PRIOR * counts.popularity
        known = targets[rows] > 0
        own = scores[np.arange(len(scores)), np.where(known, targets[rows], 0)]
        at_least = (scores[:, 1:] >= own[:, None]).sum(axis=1)
        ranks[rows] = np.where(known, at_least, counts.num_items + 1)
    return ranks


def transition_probabilities(
    counts: Counts, last_items: np.ndarray, targets: np.ndarray, prior: float = PRIOR
) -> np.ndarray:
    """Return the probability of every target after its last item.

    Dirichlet prior: `prior` events, spread like popularity, are added to those seen.

    >>> found = count(np.array([1, 2]), np.array([0, 2]), 2)
    >>> transition_probabilities(found, np.array([1]), np.array([2])).round(2).tolist()
    [0.75]
    """
    seen = np.asarray(counts.transitions[last_items, targets]).ravel()
    total = np.asarray(counts.transitions.sum(axis=1)).ravel()[last_items]
    return (seen + prior * counts.popularity[targets]) / (total + prior)


def gains(ranks: np.ndarray) -> np.ndarray:
    """Return NDCG over the whole catalogue with one target: 1 / log2(rank + 1).

    >>> gains(np.array([1, 3])).tolist()
    [1.0, 0.5]
    """
    return 1.0 / np.log2(np.asarray(ranks, float) + 1.0)


def last_items(data: PreparedData, split: EvaluationSplit) -> np.ndarray:
    """Return the last item of every example's history, int64 (E,); 0 where there is none."""
    last = np.zeros(len(split), dtype=np.int64)
    users = np.asarray(split.users)
    for sequences, rows in ((data.train, users), (split.extra, np.arange(len(split)))):
        offsets = np.asarray(sequences.offsets)
        has = offsets[rows + 1] > offsets[rows]
        last[has] = np.asarray(sequences.items)[offsets[rows[has] + 1] - 1]
    return last
