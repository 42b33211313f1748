"""What trainings of a run left, whether or not its test events were ranked."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import polars as pl

from tasks.data.bayes_recommender import BayesRecommender, bayes_optimal
from tasks.data.prepared import PreparedData
from tasks.evaluation.comparison import compare
from tasks.settings import Settings, load_settings

Training = dict[str, Any]
LONG = "200+"
"""The group of histories that windows of 200 events cut."""


def read_trainings(folder: Path, settings: Settings) -> dict[str, Training]:
    """What the page needs of each model's finished trainings; models without one are left out.

    `epoch_seconds` is of the fastest epoch: the one that other processes on a GPU disturbed least.
    """
    found = {}
    for model in settings.experiment.models:
        models = folder / "artifacts" / "models" / model
        places = [models / f"seed_{seed}" for seed in settings.experiment.seeds]
        places = [place for place in places if (place / "record.json").is_file()]
        records = [json.loads((place / "record.json").read_text()) for place in places]
        if not records:
            continue
        epochs = [
            json.loads(line)["seconds"]
            for place in places
            for line in (place / "epochs.jsonl").read_text().splitlines()
        ]
        found[model] = {
            "parameters": records[0].get("num_parameters"),
            "seconds": round(mean(record["wall_seconds"] for record in records), 1),
            "device": records[0].get("device", "cpu"),
            "settings": records[0]["settings"].get(model, {}),
            "seeds": [record["seed"] for record in records],
            "validation": [round(record["val/ndcg_at_10"], 4) for record in records],
            "epoch_seconds": round(min(epochs), 2),
            "gpu_mebibytes": round(max(r.get("peak_gpu_memory_mb") or 0.0 for r in records)),
        }
    return found


def extract_trained(folder: Path) -> dict[str, Any]:
    """What is known of a run whose test events were not ranked: the same keys, no tables.

    Raises:
        ValueError: nothing was trained.
    """
    settings = load_settings(folder / "params.yaml")
    trainings = read_trainings(folder, settings)
    if not trainings:
        raise ValueError(f"{folder} holds no finished training. Run the stages first.")
    data = PreparedData.load(folder / "data" / "prepared")
    best = None
    if settings.data.source == "synthetic":
        observer = BayesRecommender.from_folders(folder / "data" / "raw", data.folder)
        best = {f"val/{k}": v for k, v in bayes_optimal(observer, data, data.val, ks=(10,)).items()}
    return {
        "name": folder.name,
        "split": settings.data.split,
        "seeds": sorted({seed for training in trainings.values() for seed in training["seeds"]}),
        "data_hash": data.manifest["data_hash"],
        "counts": data.manifest["counts"],
        "best_possible": best,
        "tables": {},
        "trainings": trainings,
    }


def long_histories(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """NDCG@10 by model of test users with histories of 200 events or more; {} where none are.

    Args:
        rows: of `by_history_length.csv`.
    """
    return {
        row["model"]: {
            "users": int(row["users"]),
            "ndcg_at_10": float(row["ndcg_at_10"]),
            "standard_error": float(row["ndcg_at_10_se"]),
        }
        for row in rows
        if (row["split"], row["ranking"], row["group"]) == ("test", "as_ranked", LONG)
    }


def compare_models(chosen: dict[str, tuple[Path, str]]) -> list[dict[str, Any]]:
    """Paired tests between models, each of a run of its own, Holm-corrected together.

    Args:
        chosen: run and model by the name to give to the two.

    Raises:
        ValueError: the runs were not made on the same data.
    """
    folders = {folder for folder, _ in chosen.values()}
    manifests = [folder / "data" / "prepared" / "manifest.json" for folder in folders]
    hashes = {json.loads(path.read_text())["data_hash"] for path in manifests}
    if len(hashes) != 1:
        names = ", ".join(sorted(folder.name for folder in folders))
        raise ValueError(f"the runs {names} are of {len(hashes)} logs; expected one.")
    ranks = {}
    for name, (folder, model) in chosen.items():
        table = pl.read_parquet(folder / "artifacts/evaluation/per_user.parquet")
        own = table.filter(split="test", model=model).sort("seed", "user")
        ranks[name] = np.array(own["rank"]).reshape(own["seed"].n_unique(), -1)
    found = compare(ranks).as_dict()
    values = {row["model"]: row for row in found["rows"]}
    return [
        pair
        | {
            f"{side}_{key}": number
            for side in ("better", "worse")
            for key, number in (
                ("mean", values[pair[side]]["metrics"]["ndcg_at_10"]["mean"]),
                ("seeds", values[pair[side]]["num_seeds"]),
            )
        }
        for pair in found["pairs"]
        if pair["metric"] == "ndcg_at_10"
    ]
