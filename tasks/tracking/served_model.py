"""The model as MLflow serves it: histories of raw item ids in, the top items out.

MLflow stores this file with the model and runs it to load it; weights come from safetensors, so
nothing is unpickled. The code it needs lies beside it in the folder ``code``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

DEFAULT_TOP_K = 10
MICROSECONDS = 1_000_000


class TopItems(PythonModel):  # type: ignore[misc]
    """Recommends the best items after each history."""

    def load_context(self, context: Any) -> None:
        """Load weights and vocabulary."""
        from tasks.serving.service import Service

        self._service = Service.from_bundle(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score the histories and return the best items.

        Args:
            context: Unused; the model is loaded already.
            model_input: Column ``history``: lists of raw item ids, oldest first. Optional column
                ``times``: seconds since 1970, one per event, for models that read times.
            params: ``top_k``, the number of items (10), and ``filter_seen``, whether items of the
                history are left out (False).

        Returns:
            Columns ``items`` and ``scores``, both lists, best first; shorter than ``top_k`` where
            there are not that many items. ``answered_by``: the model, or popularity where no item
            of the history is known. ``unknown``: ids the model has never seen; they were left out.
        """
        params = params or {}
        histories = [[str(raw) for raw in history] for history in model_input["history"]]
        times: list[Any] = [None] * len(histories)
        if "times" in model_input:
            times = [_microseconds(given) for given in model_input["times"]]
        queries = [self._service.query(*pair) for pair in zip(histories, times, strict=True)]
        answers = self._service.answer(
            queries,
            top_k=int(params.get("top_k", DEFAULT_TOP_K)),
            exclude_seen=bool(params.get("filter_seen", False)),
        )
        raw_id = self._service.catalogue.raw_id
        return pd.DataFrame(
            {
                "items": [[raw_id(item) for item in answer.items] for answer in answers],
                "scores": [answer.scores for answer in answers],
                "answered_by": [answer.answered_by for answer in answers],
                "unknown": [list(query.unknown) for query in queries],
            }
        )


def _microseconds(seconds: Any) -> list[int] | None:
    """Times of one history; None where the row has none."""
    if seconds is None or isinstance(seconds, float):  # pandas fills gaps with NaN
        return None
    return [round(float(second) * MICROSECONDS) for second in seconds]


set_model(TopItems())
