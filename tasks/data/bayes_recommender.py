"""The observer who knows the generator, as a recommender on prepared data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl

from tasks.data.bayes import predict, score_optimum
from tasks.data.generator import Generator, load_generator, parse_item_names
from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.data.readers.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

BATCH_SCORES = 4_000_000
"""Scores computed at once: 32 MB of float64."""


class BayesRecommender:
    """Scores items by their true probability given the history.

    The score is exact where the history it is given is the user's whole one and the preparation
    dropped no event; a shortened history is read as if it were whole.

    Args:
        generator: The distribution of the log.
        items: (num_items + 1,) int64, generator item of every encoded item; entry 0 is unused.
    """

    name = "bayes_optimal"

    def __init__(self, generator: Generator, items: np.ndarray) -> None:
        self.generator = generator
        self.items = np.asarray(items, dtype=np.int64)
        self.num_items = len(items) - 1

    @classmethod
    def from_folders(cls, raw: Path, prepared: Path) -> Self:
        """Build it from ``data/raw`` (the generator) and ``data/prepared`` (the vocabulary).

        Raises:
            DataError: There is no generator, or the vocabulary is of another log.
        """
        generator = load_generator(raw)
        table = pl.read_csv(prepared / "items.csv", schema_overrides={"raw_id": pl.String})
        table = table.sort("item_id")
        items = parse_item_names(table["raw_id"].to_list(), generator.num_items)
        return cls(generator, np.concatenate([[0], items]))

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Return the probability of every item as the next one.

        Args:
            item_ids: int64 (B, S), encoded, right-padded.
            lengths: int64 (B,).
            times: Not read; times are independent of items in the generator.

        Returns:
            float32 (B, V); column 0 is -inf.
        """
        import torch  # here alone: reading prepared data must not need it

        scores = self.predict(item_ids.cpu().numpy(), lengths.cpu().numpy())
        return torch.from_numpy(scores.astype(np.float32)).to(item_ids.device)

    def predict(self, item_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the same as ``score`` from arrays, as float64."""
        distribution = predict(self.generator, self.items[item_ids], lengths)
        scores = distribution[:, self.items]
        scores[:, 0] = -np.inf
        return scores

    def save(self, folder: Path) -> None:
        """Write model.json and model.safetensors."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {k: np.ascontiguousarray(v) for k, v in self.generator.to_arrays().items()}
        save_file(arrays | {"vocabulary": self.items}, folder / "model.safetensors")
        content = {"name": self.name, "num_items": self.num_items, "lag": self.generator.lag}
        (folder / "model.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            DataError: The folder holds another model.
        """
        from safetensors.numpy import load_file

        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if content.get("name") != cls.name:
            raise DataError(f"{folder} holds the model {content.get('name')!r}, not {cls.name}.")
        arrays = load_file(folder / "model.safetensors")
        items = arrays.pop("vocabulary")
        return cls(Generator.from_arrays(arrays, int(content["lag"])), items)


def bayes_optimal(
    recommender: BayesRecommender,
    prepared: PreparedData,
    split: EvaluationSplit,
    *,
    ks: Sequence[int] = (1, 5, 10, 20),
) -> dict[str, float]:
    """Return the best possible metrics on a split, from whole histories.

    The mean over users of ``hit_rate_at_K`` and ``ndcg_at_K`` on the targets drawn, with ties
    ranked worst, and ``expected_...`` over the targets' distribution. Exact if the preparation
    dropped no event (no item filter, repeats kept).

    Args:
        recommender: The observer.
        prepared: Prepared data of the generator's log.
        split: ``prepared.val`` or ``prepared.test``.
        ks: Cut-offs.
    """
    longest = int(prepared.train.lengths.max(initial=0) + split.extra.lengths.max(initial=0))
    batch = max(1, BATCH_SCORES // (prepared.num_items + 1))
    totals: dict[str, float] = {}
    for start in range(0, len(split), batch):
        index = np.arange(start, min(start + batch, len(split)))
        histories = prepared.histories(split, index, max(longest, 1))
        scores = recommender.predict(histories.item_ids, histories.lengths)[:, 1:]
        targets = np.asarray(split.targets[index])
        metrics = score_optimum(scores, np.where(targets > 0, targets - 1, -1), ks)
        for name, values in metrics.items():
            totals[name] = totals.get(name, 0.0) + float(values.sum())
    return {name: total / max(len(split), 1) for name, total in totals.items()}
