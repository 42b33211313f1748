"""What the stages before the diagnosis left in a workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.data.integrity import verify_trained
from tasks.diagnostics.subject import Trained
from tasks.training.models import NeuralRecommender, load_recommender
from tasks.training.record import EPOCHS_FILE, STEPS_FILE


def read_trained(workspace: Path, model: str, seed: int) -> Trained | None:
    """Return a finished training of a neural model; None where there is none.

    Args:
        workspace: Folder of the run.
        model: Name of the model.
        seed: Seed it was trained with.

    Raises:
        ValueError: The model's files are damaged.
    """
    folder = workspace / "artifacts" / "models" / model / f"seed_{seed}"
    if not (folder / "model.json").is_file():
        return None
    record = _read_object(folder / "record.json")
    again = f"python -m tasks train --model {model} --seed {seed}"
    verify_trained(folder, record.get("sha256", {}), again)
    recommender = load_recommender(folder)
    if not isinstance(recommender, NeuralRecommender):
        return None
    return Trained(
        model=recommender.model.eval(),
        epochs=tuple(_read_lines(folder / EPOCHS_FILE)),
        steps=tuple(_read_lines(folder / STEPS_FILE)),
        record=record,
        metrics=read_metrics(workspace, model),
        ranks=read_ranks(workspace, model, seed),
    )


def read_metrics(workspace: Path, model: str) -> Mapping[str, float]:
    """Return the reported metrics of a model, means over its seeds; empty where not evaluated."""
    return _read_object(workspace / "artifacts" / "evaluation" / "metrics.json").get(model, {})


def read_ranks(workspace: Path, model: str, seed: int) -> np.ndarray | None:
    """Return the stored test ranks of a model, int64 (E,) by user; None where not evaluated."""
    path = workspace / "artifacts" / "evaluation" / "per_user.parquet"
    if not path.is_file():
        return None
    with named_damage(path):
        rows = pl.read_parquet(path).filter(
            (pl.col("model") == model) & (pl.col("seed") == seed) & (pl.col("split") == "test")
        )
        return rows.sort("user")["rank"].to_numpy() if len(rows) else None


SIMPLE_MODELS = ("popularity", "transitions", "logistic_regression")
METRIC = "test/ndcg_at_10"


def describe_distance(workspace: Path, model: str) -> str:
    """Say how far a model is from the best simple one and from the best possible score.

    Empty where nothing was evaluated.
    """
    value = read_metrics(workspace, model).get(METRIC)
    if value is None:
        return ""
    simple = {name: read_metrics(workspace, name).get(METRIC) for name in SIMPLE_MODELS}
    known = {name: other for name, other in simple.items() if other is not None}
    text = f"{model} reaches NDCG@10 {value:.4f}"
    if known:
        best = max(known, key=known.__getitem__)
        text += f", the best simple model ({best}) {known[best]:.4f}"
    comparison = _read_object(workspace / "artifacts" / "evaluation" / "comparison.json")
    possible = (comparison.get("best_possible") or {}).get(METRIC)
    if possible:
        text += f", the best possible on this generated log is {possible:.4f}"
    return f"{text}."


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with named_damage(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with named_damage(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Name the file that can't be read.

    Raises:
        ValueError: what is within raised for what the file holds.
    """
    try:
        yield
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise ValueError(
            f"{path} is damaged ({str(error)[:200]}). Run the stage that writes it again "
            "(`dvc repro -f`)."
        ) from error
