"""Whose histories the plots show: a few users by name, and some more for averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import PreparedData
from tasks.training.models import NeuralRecommender
from xlstm_model import lengths_to_mask

SHOWN_EVENTS = 24
"""Most recent events of a user in a heat map: what is still readable on a page."""

AVERAGED_USERS = 64
"""Users behind curves of averages."""


@dataclass(frozen=True)
class Sample:
    """Test histories as a model reads them, right-padded.

    Attributes:
        users: Raw ids of the B users.
        item_ids: (B, S) int64.
        lengths: (B,) int64, at least 1.
        times: (B, S) int64, microseconds.
    """

    users: tuple[str, ...]
    item_ids: Tensor
    lengths: Tensor
    times: Tensor

    @property
    def mask(self) -> Tensor:
        """True where an event is real, (B, S)."""
        return lengths_to_mask(self.lengths, self.item_ids.shape[1])

    def __len__(self) -> int:
        """Number of users."""
        return len(self.users)


def choose_users(data: PreparedData, count: int) -> np.ndarray:
    """Pick test examples with histories from short to long, evenly over the ranks of length.

    Args:
        data: Prepared data.
        count: Users wanted; fewer where there are fewer with a history.

    Returns:
        (N,) int64 positions in the test split, by length of the history.
    """
    users = np.asarray(data.test.users)
    lengths = data.train.lengths[users] + data.test.extra.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    count = min(count, len(order))
    # The middle of each of `count` equal parts, so that neither extreme stands for the rest.
    places = ((np.arange(count) + 0.5) * len(order) / max(count, 1)).astype(np.int64)
    return order[places]


def read_sample(
    data: PreparedData, index: np.ndarray, labels: Sequence[str], max_len: int
) -> Sample:
    """Return the histories of chosen test examples.

    Args:
        data: Prepared data.
        index: (B,) positions in the test split.
        labels: Raw id of every training sequence.
        max_len: Most recent events kept.
    """
    found = data.histories(data.test, index, max_len)
    return Sample(
        users=tuple(str(labels[user]) for user in np.asarray(data.test.users)[index]),
        item_ids=torch.from_numpy(found.item_ids),
        lengths=torch.from_numpy(found.lengths),
        times=torch.from_numpy(found.times),
    )


def run_model(recommender: NeuralRecommender, sample: Sample) -> Tensor:
    """Return the hidden states (B, S, D) of a sample, in eval mode and without a graph."""
    recommender.model.eval()
    with torch.no_grad():
        hidden, _ = recommender.model.encode(sample.item_ids, mask=sample.mask, times=sample.times)
    return hidden
