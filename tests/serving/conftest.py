"""A workspace of a few users with every model, the neural ones with random weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from tasks.data.build import build_prepared
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.data.synthetic import write_synthetic
from tasks.settings import Settings, SyntheticSettings, TrainSettings, write_params
from tasks.training.models import MODELS, CountModel

MAX_SEQ_LEN = 16
NEURAL = ("gru", "lstm", "sasrec", "xlstm")


def prepare(workspace: Path) -> PreparedData:
    """Prepare a synthetic log of 60 users and 30 items."""
    raw = workspace / "data" / "raw"
    raw.mkdir(parents=True)
    choices = SyntheticSettings(num_users=60, num_items=30, min_length=5, max_length=14)
    write_synthetic(raw, choices.model_dump())
    log = pl.read_csv(raw / "synthetic.csv", schema_overrides={"user_id": pl.String})
    log = log.with_columns(
        pl.col("item_id").cast(pl.String), row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    build_prepared(workspace / "data" / "prepared", log, Recipe())
    return PreparedData.load(workspace / "data" / "prepared")


def save_models(workspace: Path, data: PreparedData) -> None:
    """Leave what trainings leave; the GRU is the best on validation."""
    for number, spec in enumerate(MODELS):
        folder = workspace / "artifacts" / "models" / spec.name / "seed_0"
        settings = getattr(TrainSettings(), spec.name).model_dump()
        if isinstance(spec, CountModel):
            train = data.train
            spec.fit(train.items, train.offsets, data.num_items, settings).save(folder)
        else:
            settings |= {"embedding_dim": 8, "num_layers": 1}
            model = spec.build(data.num_items, settings, max_seq_len=MAX_SEQ_LEN)
            with torch.no_grad():
                generator = torch.Generator().manual_seed(number)
                for parameter in model.model.parameters():
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            model.save(folder)
        record = {
            "model": spec.name,
            "seed": 0,
            "data_hash": data.manifest["data_hash"],
            "settings": {"shared": {"max_seq_len": MAX_SEQ_LEN}},
            "val/ndcg_at_10": 0.9 if spec.name == "gru" else number / 100,
        }
        (folder / "record.json").write_text(json.dumps(record))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with prepared data and every model. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("project")
    save_models(folder, prepare(folder))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    write_params(Settings(), folder / "params.yaml")
    return folder


@pytest.fixture(scope="session")
def prepared(project: Path) -> PreparedData:
    return PreparedData.load(project / "data" / "prepared")


def log_of(project: Path, user: str) -> list[str]:
    """Items of a user in the raw log, oldest first."""
    with (project / "data" / "raw" / "synthetic.csv").open(newline="") as file:
        rows: list[dict[str, Any]] = [r for r in csv.DictReader(file) if r["user_id"] == user]
    return [row["item_id"] for row in sorted(rows, key=lambda row: float(row["timestamp"]))]
