"""The pipeline's own reading and preparation as parts of a subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tasks.data.encoding import Vocabulary, read_vocabulary
from tasks.data.preparation import Preparation, prepare
from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.data.recipe import Recipe
from tasks.diagnostics.subject import PreparedLog, RawLog

NO_ROW = ""
"""User of a row of the raw log that could not be used and was quarantined."""


def log_from_frame(frame: pl.DataFrame) -> RawLog:
    """Turn usable rows into a raw log whose positions are the rows of the file.

    Args:
        frame: Columns `user_id`, `item_id`, `timestamp` (microseconds), `row`, maybe `rating`.
    """
    rows = frame["row"].to_numpy()
    size = int(rows.max()) + 1 if len(rows) else 0

    def spread(values: np.ndarray, fill: object) -> np.ndarray:
        full = np.full(size, fill, dtype=values.dtype)
        full[rows] = values
        return full

    rating = None
    if "rating" in frame.columns:
        rating = spread(frame["rating"].cast(pl.Float64).to_numpy(), np.nan)
    return RawLog(
        user=spread(frame["user_id"].to_numpy().astype(str), NO_ROW),
        item=spread(frame["item_id"].to_numpy().astype(str), NO_ROW),
        time=spread(frame["timestamp"].cast(pl.Int64).to_numpy(), 0),
        rating=rating,
    )


def frame_from_log(log: RawLog) -> pl.DataFrame:
    """Undo `log_from_frame`."""
    rows = np.flatnonzero(log.user != NO_ROW)
    columns: dict[str, object] = {
        "user_id": log.user[rows].astype(str),
        "item_id": log.item[rows].astype(str),
        "timestamp": log.time[rows].astype(np.int64),
        "row": rows.astype(np.int64),
    }
    if log.rating is not None:
        columns["rating"] = log.rating[rows].astype(np.float64)
    return pl.DataFrame(columns)


def preparer(recipe: Recipe) -> Callable[[RawLog], PreparedLog]:
    """Return the pipeline's preparation under a recipe, in memory."""

    def prepare_log(log: RawLog) -> PreparedLog:
        return from_preparation(prepare(frame_from_log(log), recipe))

    return prepare_log


def from_preparation(preparation: Preparation) -> PreparedLog:
    """Return prepared data and vocabularies of a preparation that was not written to disk."""
    arrays = preparation.arrays
    data = PreparedData(
        folder=Path(),
        num_users=len(preparation.users),
        num_items=len(preparation.items),
        manifest={},
        train=_sequences(arrays, "train."),
        val=_split(arrays, "val"),
        test=_split(arrays, "test"),
    )
    return PreparedLog(data, _labels(preparation.items), _labels(preparation.users))


def load_prepared(folder: Path) -> PreparedLog:
    """Return prepared data and vocabularies as they lie on disk."""
    return PreparedLog(
        PreparedData.load(folder),
        _labels(read_vocabulary(folder / "items.csv")),
        _labels(read_vocabulary(folder / "users.csv")),
    )


def _labels(vocabulary: Vocabulary) -> np.ndarray:
    """Raw ids by encoded id; item 0 is padding and has a label that no raw id has."""
    raw = vocabulary.raw_ids.to_numpy().astype(str)
    return np.concatenate([np.array(["<padding>"]), raw]) if vocabulary.first_id == 1 else raw


def _sequences(arrays: dict[str, np.ndarray], prefix: str) -> PackedSequences:
    names = ("items", "times", "rows", "offsets")
    return PackedSequences(**{name: arrays[f"{prefix}{name}"] for name in names})


def _split(arrays: dict[str, np.ndarray], name: str) -> EvaluationSplit:
    fields = ("users", "targets", "target_times", "target_rows")
    return EvaluationSplit(
        name=name,
        extra=_sequences(arrays, f"{name}.extra_"),
        **{field: arrays[f"{name}.{field}"] for field in fields},
    )
