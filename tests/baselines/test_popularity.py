from __future__ import annotations

import numpy as np
import torch

from tasks.baselines.popularity import PopularityRecommender


def test_every_history_gets_the_counts() -> None:
    items, offsets = np.array([3, 1, 3, 3, 1], np.int32), np.array([0, 2, 5])
    model = PopularityRecommender.fit(items, offsets, 4)
    scores = model.score(torch.tensor([[3], [0]]), torch.tensor([1, 0]))
    assert scores[:, 1:].tolist() == [[2.0, 0.0, 3.0, 0.0]] * 2
    assert model.num_items == 4
