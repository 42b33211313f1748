"""Training curves of every model in one table, from the epoch records trainings leave behind."""

from __future__ import annotations

import json
from typing import Any

_SOURCES = {
    "epoch": "epoch",
    "step": "step",
    "train_loss": "train/loss",
    "val_ndcg_at_10": "val/ndcg_at_10",
    "val_hit_rate_at_10": "val/hit_rate_at_10",
}

CURVE_COLUMNS: tuple[str, ...] = ("model", "seed", *_SOURCES)
"""Columns of curves.csv."""


def curve_rows(model: str, seed: int, epochs_jsonl: str) -> list[dict[str, Any]]:
    """Return one row per epoch; what an epoch did not record is None.

    Args:
        model: name of the model.
        seed: its seed.
        epochs_jsonl: content of epochs.jsonl, one object per line.

    Example:
        >>> rows = curve_rows("gru", 0, '{"epoch": 1, "train/loss": 7.5}')
        >>> rows[0]["train_loss"], rows[0]["val_ndcg_at_10"]
        (7.5, None)
    """
    rows = []
    for line in epochs_jsonl.splitlines():
        if line.strip():
            record = json.loads(line)
            found = {column: record.get(source) for column, source in _SOURCES.items()}
            rows.append({"model": model, "seed": seed, **found})
    return rows
