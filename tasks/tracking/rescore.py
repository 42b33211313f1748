"""Ranks a model of earlier on data prepared later: new users, new events, new items."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.baselines.contract import Recommender
from tasks.data.prepared import PreparedData
from tasks.evaluation.evaluate import rank_split
from tasks.training.models import load_recommender

MAX_HISTORY = 200


def test_ranks(model: Path, prepared: Path, data_hash: str) -> np.ndarray | None:
    """Ranks of a logged model on the test split of other data, in order of users.

    Args:
        model: Folder with the model's files and the ``items.csv`` it was trained with.
        prepared: Prepared data to rank on.
        data_hash: Hash those data must have.

    Returns:
        int64 (E,); None when the folder holds other data by now.
    """
    try:
        data = PreparedData.load(prepared)
    except (OSError, ValueError):
        return None
    if data.manifest.get("data_hash") != data_hash:
        return None
    old_ids = translate(_vocabulary(prepared / "items.csv"), _vocabulary(model / "items.csv"))
    translated = Translated(load_recommender(model / "model"), old_ids)
    ranks = rank_split(translated.score, data, data.test, max_len=MAX_HISTORY).ranks
    return ranks[np.argsort(data.test.users, kind="stable")]


def translate(new: dict[str, int], old: dict[str, int]) -> np.ndarray:
    """Old item id of every new one, 0 where the old vocabulary lacks it; int64 (V,).

    >>> translate({"a": 1, "b": 2}, {"b": 1}).tolist()
    [0, 0, 1]
    """
    ids = np.zeros(len(new) + 1, dtype=np.int64)
    for raw, item in new.items():
        ids[item] = old.get(raw, 0)
    return ids


class Translated:
    """A model behind another vocabulary: items it does not know score -inf."""

    def __init__(self, model: Recommender, old_ids: np.ndarray) -> None:
        self._model = model
        self._old_ids = torch.from_numpy(old_ids)

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Score histories of the new vocabulary; see `Recommender.score`."""
        old = self._old_ids[item_ids]
        is_real = torch.arange(item_ids.shape[1]) < lengths[:, None]
        is_known = is_real & (old > 0)
        # Known events move to the front, in their order.
        order = (~is_known).to(torch.uint8).argsort(dim=1, stable=True)
        known = is_known.sum(dim=1)
        times = None if times is None else times.gather(1, order)
        scores = self._model.score((old * is_known).gather(1, order), known, times)
        return scores[:, self._old_ids]


def _vocabulary(path: Path) -> dict[str, int]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["raw_id"]: int(row["item_id"]) for row in csv.DictReader(file)}
