"""A workspace with a real SQLite store; the store is migrated once and copied for each test."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks import tracking
from tasks.baselines.popularity import PopularityRecommender
from tasks.settings import Settings, settings_from_dict
from tasks.tracking import delivery
from tasks.tracking.store import Store

NUM_ITEMS = 4


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without runs."""
    folder = tmp_path_factory.mktemp("store")
    Store(f"sqlite:///{folder / 'made.db'}")
    path = folder / "empty.db"
    with closing(sqlite3.connect(folder / "made.db")) as database:
        database.execute("VACUUM INTO ?", (str(path),))
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with prepared data of four items, and a store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(tracking.experiment.DELIVER_LATER, raising=False)
    local = tmp_path / ".assay"
    local.mkdir()
    (local / "mlflow.db").write_bytes(empty_store.read_bytes())
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    lines = "".join(f"{item},{raw}\n" for item, raw in enumerate("abcd", start=1))
    (prepared / "items.csv").write_text(f"item_id,raw_id\n{lines}")
    np.save(prepared / "train.items.npy", np.array([2, 2, 2, 4, 4, 1], dtype=np.int32))
    (prepared / "manifest.json").write_text(json.dumps({"data_hash": "d" * 64}))
    yield tmp_path
    delivery.forget_store(tracking.store_uri(tmp_path))


@pytest.fixture
def settings() -> Settings:
    return toy_settings()


def toy_settings(**sections: Any) -> Settings:
    experiment = {"name": "toy", "models": ["popularity", "gru"]}
    return settings_from_dict({"experiment": experiment} | sections)


@pytest.fixture
def client(workspace: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking.store_uri(workspace))


def runs(client: Any) -> dict[str, Any]:
    """Runs of the experiment `toy` by name, the newest of each."""
    found = client.get_experiment_by_name("toy")
    if found is None:
        return {}
    listed = client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])
    return {run.info.run_name: run for run in listed}


def parents(client: Any) -> list[Any]:
    """Parent runs, oldest first."""
    listed = client.search_runs(
        [client.get_experiment_by_name("toy").experiment_id],
        "tags.`assay.kind` = 'experiment'",
        order_by=["attributes.start_time ASC"],
    )
    return list(listed)


def children(client: Any, parent: Any) -> dict[str, Any]:
    """Child runs of a parent by name."""
    listed = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return {run.info.run_name: run for run in listed}


def save_model(workspace: Path, model: str, seed: int = 0, *, favourite: int = 1) -> Path:
    """Leave what a training of a popularity model leaves, under the name of any model."""
    folder = workspace / "artifacts" / "models" / model / f"seed_{seed}"
    items = np.array([1, 2, 3, 4, *[favourite] * 3], dtype=np.int32)
    offsets = np.array([0, len(items)])
    PopularityRecommender.fit(items, offsets, NUM_ITEMS).save(folder)
    record = {"model": model, "seed": seed, "num_parameters": 4, "favourite": favourite}
    record |= {"settings": {"shared": {"max_seq_len": 50}}}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "epochs.jsonl").write_text(json.dumps(epoch_row(1)) + "\n")
    (folder / "steps.jsonl").write_text("")
    return folder


def epoch_row(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": epoch * 10,
        "train/loss": 5.0 - epoch,
        "val/ndcg_at_10": epoch / 100,
        "seconds": 1.5,
        "is_best": True,
    }


def train(
    settings: Settings, workspace: Path, model: str, seed: int = 0, *, favourite: int = 1
) -> None:
    """Log a training of three epochs."""
    with tracking.model_run(settings, workspace, model, seed) as run:
        for epoch in (1, 2, 3):
            run.on_steps([{"step": epoch * 10, "train/loss": 1.0, "grad/norm": 0.5}])
            run.on_epoch(epoch_row(epoch))
        run.log_folder(save_model(workspace, model, seed, favourite=favourite))


def write_evaluation(workspace: Path, ranks: dict[str, list[int]]) -> None:
    """Write per-user ranks, the same on val and test."""
    folder = workspace / "artifacts" / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    tables = [
        pl.DataFrame(
            {
                "model": [model] * len(values),
                "seed": [0] * len(values),
                "split": [split] * len(values),
                "user": list(range(len(values))),
                "rank": values,
            }
        )
        for model, values in ranks.items()
        for split in ("val", "test")
    ]
    pl.concat(tables).write_parquet(folder / "per_user.parquet")


MakeEvaluation = Callable[[Path, dict[str, list[int]]], None]
