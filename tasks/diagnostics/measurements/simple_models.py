"""What counting alone reaches: popularity and transitions, on test and within training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.data.prepared import PreparedData
from tasks.diagnostics.measurements import count_models
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.trends import FEWEST, chance_of_no_gain
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

MAX_EXAMPLES = 1000
"""Test users compared, evenly spread: a difference of 0.02 then stands out of the noise."""

CLEAR_GAIN = 1.05
"""Mean gain of transitions over popularity's that counts as something to learn."""

CERTAIN = 1e-4
"""p-value below which the gain of transitions over popularity counts as found."""


@dataclass(frozen=True)
class SimpleModels:
    """Mean NDCG over the whole catalogue of popularity and of transitions after the last item."""

    popularity: float = quantity("NDCG, test")
    transitions: float = quantity("NDCG, test")
    p_of_gain: float = quantity("chance of such a gain of transitions if there were none")
    inner_popularity: float = quantity("NDCG, last training events")
    inner_transitions: float = quantity("NDCG, last training events")
    inner_p_of_gain: float = quantity("chance of such a gain within training if there were none")
    num_examples: int = quantity("test users")
    num_inner: int = quantity("training users")
    index: np.ndarray | None = None
    popularity_gains: np.ndarray | None = None
    transition_gains: np.ndarray | None = None
    inner_differences: np.ndarray | None = None

    @property
    def learnable(self) -> bool:
        """Transitions beat popularity on test: the last item tells something about the next."""
        clear = self.transitions >= CLEAR_GAIN * self.popularity
        return clear and self.p_of_gain <= CERTAIN

    @property
    def learnable_within(self) -> bool:
        """The same for the last training event, predicted from the training events before it."""
        clear = self.inner_transitions >= CLEAR_GAIN * self.inner_popularity
        return clear and self.inner_p_of_gain <= CERTAIN


def measure(probe: Probe) -> SimpleModels:
    """Fit both on training events; rank test targets, and the last training events likewise."""
    data = probe.data
    split = data.test
    if len(split) < FEWEST:
        raise NotMeasuredError(f"{FEWEST} test examples; there are {len(split)}")
    index = spread(len(split))
    counts = count_models.count(data.train.items, data.train.offsets, data.num_items)
    last = count_models.last_items(data, split)[index]
    targets = np.asarray(split.targets)[index]
    popular = gains(count_models.popularity_ranks(counts, targets))
    follow = gains(count_models.transition_ranks(counts, last, targets))
    inner_popular, inner_follow = _within_training(data)
    return SimpleModels(
        popularity=float(popular.mean()),
        transitions=float(follow.mean()),
        p_of_gain=chance_of_no_gain(follow, popular),
        inner_popularity=float(inner_popular.mean()) if len(inner_popular) else 0.0,
        inner_transitions=float(inner_follow.mean()) if len(inner_follow) else 0.0,
        inner_p_of_gain=chance_of_no_gain(inner_follow, inner_popular),
        num_examples=len(index),
        num_inner=len(inner_popular),
        index=index,
        popularity_gains=popular,
        transition_gains=follow,
        inner_differences=inner_follow - inner_popular,
    )


def spread(count: int) -> np.ndarray:
    """Return at most `MAX_EXAMPLES` positions, evenly spread over `count`.

    >>> spread(3).tolist(), len(spread(5000))
    ([0, 1, 2], 1000)
    """
    return np.unique(np.linspace(0, count - 1, min(count, MAX_EXAMPLES)).round().astype(np.int64))


def _within_training(data: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """Gains of both models, fitted without every user's last training event, on that event."""
    items, offsets = np.asarray(data.train.items), np.asarray(data.train.offsets)
    long = np.flatnonzero(np.diff(offsets) >= 3)
    if len(long) < FEWEST:
        return np.zeros(FEWEST), np.zeros(FEWEST)
    kept = np.ones(len(items), dtype=bool)
    kept[offsets[long + 1] - 1] = False
    lengths = np.diff(offsets)
    lengths[long] -= 1
    counts = count_models.count(
        items[kept], np.concatenate([[0], np.cumsum(lengths)]), data.num_items
    )
    chosen = long[spread(len(long))]
    targets = items[offsets[chosen + 1] - 1].astype(np.int64)
    targets = np.where((targets >= 1) & (targets <= data.num_items), targets, -1)
    last = items[offsets[chosen + 1] - 2].astype(np.int64)
    return (
        gains(count_models.popularity_ranks(counts, targets)),
        gains(count_models.transition_ranks(counts, last, targets)),
    )
