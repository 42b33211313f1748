from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tasks.data.build import build_prepared
from tasks.data.generator import save_generator
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.data.synthetic import write_synthetic
from tasks.evaluation import evaluate_stage
from tasks.evaluation.metrics import mean_metrics
from tasks.settings import Settings, SyntheticSettings, settings_from_dict
from tasks.training.models import model_spec

MODELS = ("popularity", "transitions", "logistic_regression")
FILES = {
    "bayes.json",
    "by_history_length.csv",
    "by_item_popularity.csv",
    "comparison.json",
    "curves.csv",
    "metrics.json",
    "per_user.parquet",
    "summary.csv",
}


def make_settings(**evaluate) -> Settings:
    return settings_from_dict(
        {
            "experiment": {"models": list(MODELS), "seeds": [0, 1]},
            "data": {"source": "synthetic"},
            "evaluate": {"bootstrap_samples": 100, **evaluate},
            "tracking": {"enabled": False},
        }
    )


def prepare(workspace: Path) -> PreparedData:
    raw = workspace / "data" / "raw"
    raw.mkdir(parents=True)
    choices = SyntheticSettings(num_users=150, num_items=40, max_length=20).model_dump()
    save_generator(write_synthetic(raw, choices), raw, choices)
    log = pl.read_csv(raw / "synthetic.csv", schema_overrides={"user_id": pl.String})
    log = log.with_columns(
        pl.col("item_id").cast(pl.String), row=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    build_prepared(workspace / "data" / "prepared", log, Recipe())
    return PreparedData.load(workspace / "data" / "prepared")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with synthetic data and three count models, two seeds each."""
    folder = tmp_path_factory.mktemp("workspace")
    data = prepare(folder)
    for model in MODELS:
        for seed in (0, 1):
            target = folder / "artifacts" / "models" / model / f"seed_{seed}"
            options = {"smoothing": 1.0, "inverse_regularization": 1.0}
            fitted = model_spec(model).fit(
                data.train.items, data.train.offsets, data.num_items, options, seed
            )
            fitted.save(target)
            (target / "epochs.jsonl").write_text('{"epoch": 0, "val/ndcg_at_10": 0.1}\n')
            record = {"data_hash": data.manifest["data_hash"]}
            (target / "record.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def evaluated(workspace: Path) -> tuple[dict, Path]:
    result = evaluate_stage.run(make_settings(), workspace)
    return result, workspace / "artifacts" / "evaluation"


def test_every_file_is_written(evaluated: tuple[dict, Path]) -> None:
    result, folder = evaluated
    assert {path.name for path in folder.iterdir()} == FILES
    assert result["best_model"] in MODELS
    metrics = json.loads((folder / "metrics.json").read_text())
    reported = metrics[result["best_model"]]["test/ndcg_at_10"]
    assert result["test/ndcg_at_10"] == pytest.approx(reported, abs=1e-12)


def test_per_user_values_give_the_reported_means(evaluated: tuple[dict, Path]) -> None:
    _, folder = evaluated
    ranks = pl.read_parquet(folder / "per_user.parquet")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert ranks.height == len(MODELS) * 2 * 2 * 150
    for column, prefix in (("rank", "test"), ("rank_seen_filtered", "test_seen_filtered")):
        own = ranks.filter(model="logistic_regression", split="test")
        for name, value in mean_metrics(own[column].to_numpy()).items():
            assert metrics["logistic_regression"][f"{prefix}/{name}"] == pytest.approx(value)
    assert (ranks["rank_seen_filtered"] <= ranks["rank"]).all()


def test_history_and_target_are_described(evaluated: tuple[dict, Path], workspace: Path) -> None:
    _, folder = evaluated
    data = PreparedData.load(workspace / "data" / "prepared")
    ranks = pl.read_parquet(folder / "per_user.parquet")
    test = ranks.filter(model="popularity", split="test", seed=0)
    assert np.array_equal(test["history_length"], data.train.lengths + 1)
    assert np.array_equal(test["target_count"], data.item_counts[data.test.targets])
    assert np.array_equal(test["target_time"], data.test.target_times)


def test_nothing_beats_the_best_possible(evaluated: tuple[dict, Path]) -> None:
    _, folder = evaluated
    best = json.loads((folder / "bayes.json").read_text())
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["best_possible"] == best
    for row in comparison["tables"][0]["rows"]:
        assert row["metrics"]["ndcg_at_10"]["low"] < best["test/ndcg_at_10"]


def test_tables_hold_both_rankings_and_all_pairs(evaluated: tuple[dict, Path]) -> None:
    _, folder = evaluated
    tables = json.loads((folder / "comparison.json").read_text())["tables"]
    assert [table["seen_filtered"] for table in tables] == [False, True]
    for table in tables:
        assert {row["num_seeds"] for row in table["rows"]} == {2}
        assert len(table["pairs"]) == len(table["sentences"]) == 3 * 2
    curves = pl.read_csv(folder / "curves.csv")
    assert curves.select("model", "seed").n_unique() == 6
    groups = pl.read_csv(folder / "by_history_length.csv")
    users = groups.filter(model="popularity", ranking="as_ranked")["users"].sum()
    assert users == 150


def test_same_input_gives_the_same_files(evaluated: tuple[dict, Path], workspace: Path) -> None:
    _, folder = evaluated
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    evaluate_stage.run(make_settings(), workspace)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before == after


def test_filter_alone_replaces_the_headline(workspace: Path, evaluated: tuple[dict, Path]) -> None:
    _, folder = evaluated
    both = pl.read_parquet(folder / "per_user.parquet")
    evaluate_stage.run(make_settings(filter_seen="yes"), workspace)
    only = pl.read_parquet(folder / "per_user.parquet")
    (table,) = json.loads((folder / "comparison.json").read_text())["tables"]
    evaluate_stage.run(make_settings(), workspace)  # as the other tests found it
    assert table["seen_filtered"] is True
    assert "rank_seen_filtered" not in only.columns
    assert np.array_equal(only["rank"], both["rank_seen_filtered"])


def test_model_that_was_not_trained_is_named(workspace: Path) -> None:
    settings = settings_from_dict(
        {"experiment": {"models": ["gru"], "seeds": [7]}, "tracking": {"enabled": False}}
    )
    with pytest.raises(FileNotFoundError, match="train --model gru --seed 7"):
        evaluate_stage.run(settings, workspace)


def test_model_of_other_data_is_refused(workspace: Path) -> None:
    record = workspace / "artifacts" / "models" / "popularity" / "seed_1" / "record.json"
    original = record.read_text()
    record.write_text('{"data_hash": "0123456789abcdef"}')
    try:
        with pytest.raises(ValueError, match="was trained on data 0123456789ab"):
            evaluate_stage.run(make_settings(), workspace)
    finally:
        record.write_text(original)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_networks_rank_where_settings_say(
    name: str, workspace: Path, evaluated: tuple[dict, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, used = [], []
    monkeypatch.setattr(
        evaluate_stage,
        "resolve_device",
        lambda device: asked.append(device) or torch.device("meta"),
    )
    data = PreparedData.load(workspace / "data" / "prepared")
    section = Settings().train.gru.model_dump() | {"embedding_dim": 8}
    target = workspace / "artifacts" / "models" / "gru" / "seed_0"
    model_spec("gru").build(data.num_items, section, max_seq_len=20).save(target)
    (target / "record.json").write_text(json.dumps({"data_hash": data.manifest["data_hash"]}))

    def rank(settings, recommender, data, split, device):
        assert device.type == "meta"
        used.append(next(recommender.model.parameters()).device.type)
        raise StopIteration

    monkeypatch.setattr(evaluate_stage, "_rank", rank)
    values = {
        "experiment": {"models": ["gru"], "seeds": [0]},
        "train": {"shared": {"device": name}},
    }
    with pytest.raises(StopIteration):
        evaluate_stage.run(settings_from_dict(values), workspace)
    assert (asked, used) == ([name], ["meta"])
