"""The observer as a recommender, on data that went through the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data import fetch_stage, prepare_stage
from tasks.data.bayes_recommender import BayesRecommender, bayes_optimal
from tasks.data.generator import parse_item_names
from tasks.data.prepared import PreparedData
from tasks.data.readers import DataError
from tasks.settings import Settings

NUM_USERS = 800


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    settings = Settings.model_validate(
        {"data": {"source": "synthetic", "synthetic": {"num_users": NUM_USERS, "num_items": 90}}}
    )
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


@pytest.fixture(scope="module")
def prepared(workspace: Path) -> PreparedData:
    return PreparedData.load(workspace / "data" / "prepared")


@pytest.fixture(scope="module")
def model(workspace: Path) -> BayesRecommender:
    return BayesRecommender.from_folders(
        workspace / "data" / "raw", workspace / "data" / "prepared"
    )


def score(model: BayesRecommender, rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    item_ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for row, items in enumerate(rows):
        item_ids[row, : len(items)] = torch.tensor(items, dtype=torch.int64)
    return model.score(item_ids, torch.tensor([len(items) for items in rows]))


def test_encoded_items_are_the_generators(model, prepared, workspace) -> None:
    lines = (workspace / "data" / "prepared" / "items.csv").read_text().splitlines()[1:]
    assert len(lines) == prepared.num_items == model.num_items
    for line in lines:
        encoded, raw = line.split(",")
        assert model.items[int(encoded)] == parse_item_names([raw], 90)[0]


def test_scores_keep_the_contract(model) -> None:
    scores = score(model, [[1, 2, 3], [4], []])
    assert scores.shape == (3, model.num_items + 1)
    assert scores.dtype == torch.float32
    assert torch.isneginf(scores[:, 0]).all()
    assert torch.isfinite(scores[:, 1:]).all()
    assert scores[:, 1:].sum(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert torch.equal(score(model, [[4]]), scores[1:2])
    padded = torch.tensor([[4, 7, 9]])
    assert torch.equal(model.score(padded, torch.tensor([1])), scores[1:2])


def test_history_without_width(model) -> None:
    empty = model.score(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    assert torch.equal(empty, score(model, [[], []]))


def test_saved_model_scores_the_same(model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["model.json", "model.safetensors"]
    loaded = BayesRecommender.load(tmp_path / "m")
    rows = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2]]
    assert torch.equal(score(loaded, rows), score(model, rows))
    (tmp_path / "m" / "model.json").write_text('{"name": "gru"}')
    with pytest.raises(DataError, match="holds the model 'gru'"):
        BayesRecommender.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["val", "test"])
def test_drawn_targets_agree_with_the_expectation(name: str, model, prepared) -> None:
    metrics = bayes_optimal(model, prepared, getattr(prepared, name))
    assert len(getattr(prepared, name)) == NUM_USERS
    for k in (1, 5, 10, 20):
        for metric in ("hit_rate", "ndcg"):
            drawn, expected = metrics[f"{metric}_at_{k}"], metrics[f"expected_{metric}_at_{k}"]
            assert drawn == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(NUM_USERS))
    assert 0.05 < metrics["hit_rate_at_1"] < metrics["hit_rate_at_10"] < 0.95


def test_optimum_is_above_popularity(model, prepared) -> None:
    best = bayes_optimal(model, prepared, prepared.test)
    popular = np.argsort(-prepared.item_counts)[:10]
    hits = np.isin(prepared.test.targets, popular).mean()
    assert best["hit_rate_at_10"] > hits + 0.1


def test_batches_do_not_change_the_result(model, prepared, monkeypatch) -> None:
    whole = bayes_optimal(model, prepared, prepared.test, ks=(10,))
    monkeypatch.setattr("tasks.data.bayes_recommender.BATCH_SCORES", 7 * 91)
    assert bayes_optimal(model, prepared, prepared.test, ks=(10,)) == pytest.approx(whole)


def test_other_vocabulary_is_refused(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,raw_id\n1,242\n")
    with pytest.raises(DataError, match="'242' is none of the generator's 90 items"):
        BayesRecommender.from_folders(workspace / "data" / "raw", tmp_path)
