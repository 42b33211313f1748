"""The model as MLflow serves it: histories of raw item ids in, the top items out.

MLflow stores this file with the model and runs it to load it; weights come from safetensors, so
nothing is unpickled. The package assay has to be installed where the model is loaded.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

DEFAULT_TOP_K = 10


class TopItems(PythonModel):  # type: ignore[misc]
    """Recommends the best items after each history."""

    def load_context(self, context: Any) -> None:
        """Load weights and vocabulary."""
        from tasks.training.models import load_recommender

        folder = Path(context.artifacts["model"])
        self._model = load_recommender(folder / "model")
        with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self._raw_ids = np.empty(len(rows) + 1, dtype=object)
        self._raw_ids[0] = ""
        for row in rows:
            self._raw_ids[int(row["item_id"])] = row["raw_id"]
        self._item_ids = {raw: item for item, raw in enumerate(self._raw_ids) if item}

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score the histories and return the best items.

        Args:
            context: Unused; the model is loaded already.
            model_input: Column ``history``: lists of raw item ids, oldest first. Ids the model
                has never seen are left out.
            params: ``top_k``, the number of items (10), and ``filter_seen``, whether items of the
                history are left out (False).

        Returns:
            Columns ``items`` and ``scores``, both lists, best first; shorter than ``top_k`` where
            there are not that many items.
        """
        import torch

        params = params or {}
        top_k = min(int(params.get("top_k", DEFAULT_TOP_K)), self._model.num_items)
        histories = [
            [self._item_ids[str(raw)] for raw in history if str(raw) in self._item_ids]
            for history in model_input["history"]
        ]
        lengths = torch.tensor([len(history) for history in histories], dtype=torch.int64)
        item_ids = torch.zeros(len(histories), max(1, int(lengths.max())), dtype=torch.int64)
        for row, history in enumerate(histories):
            item_ids[row, : len(history)] = torch.tensor(history, dtype=torch.int64)
        with torch.inference_mode():
            scores = self._model.score(item_ids, lengths)
            if params.get("filter_seen", False):
                scores = scores.scatter(1, item_ids, float("-inf"))
            best = torch.topk(scores, top_k, dim=1)
        possible = best.values.isfinite().sum(dim=1).tolist()
        items = [list(self._raw_ids[row]) for row in best.indices.numpy()]
        values = best.values.double().tolist()
        return pd.DataFrame(
            {
                "items": [row[:count] for row, count in zip(items, possible, strict=True)],
                "scores": [row[:count] for row, count in zip(values, possible, strict=True)],
            }
        )


set_model(TopItems())
