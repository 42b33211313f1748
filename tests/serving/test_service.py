from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.serving.catalogue import Catalogue
from tasks.serving.service import Service, shown_events
from tasks.serving.workspace import Workspace, choose_model, trained_models
from tasks.training.models import load_recommender


@pytest.fixture
def service(project: Path) -> Service:
    return Workspace.open(project, "gru").service


def test_a_query_keeps_the_times_of_known_items(service: Service) -> None:
    query = service.query(["i0003", "what", "i0001"], [10, 20, 30])
    assert service.catalogue.raw_id(int(query.history.items[0])) == "i0003"
    assert query.history.times.tolist() == [10, 30]
    assert (query.unknown, query.label) == (("what",), "i0003,what,i0001")


def test_a_model_of_another_vocabulary_is_refused(service: Service) -> None:
    with pytest.raises(ValueError, match="gru knows 30 items, the vocabulary holds 2"):
        Service(service.model, Catalogue(["a", "b"]), 16)


def test_a_model_says_itself_how_many_events_it_is_shown_or_its_record_does(
    project: Path, tmp_path: Path
) -> None:
    models = project / "artifacts" / "models"
    gru = load_recommender(models / "gru" / "seed_0")
    popularity = load_recommender(models / "popularity" / "seed_0")
    assert shown_events(tmp_path, gru) == 16
    assert shown_events(models / "popularity" / "seed_0", popularity) == 16
    with pytest.raises(ValueError, match="does not say how many events"):
        shown_events(tmp_path, popularity)


def test_the_best_model_on_validation_is_chosen(tmp_path: Path) -> None:
    for name, seed, value in (("gru", 0, 0.2), ("gru", 1, 0.3), ("xlstm", 0, 0.25)):
        folder = tmp_path / "artifacts" / "models" / name / f"seed_{seed}"
        folder.mkdir(parents=True)
        record = {"model": name, "seed": seed, "data_hash": "d", "val/ndcg_at_10": value}
        (folder / "record.json").write_text(json.dumps(record))
    chosen = choose_model(tmp_path)
    assert (chosen.name, chosen.seed) == ("gru", 1)
    assert choose_model(tmp_path, "xlstm").value == 0.25
    assert choose_model(tmp_path, "gru", 0).value == 0.2
    assert choose_model(tmp_path, "", 0).name == "xlstm"
    with pytest.raises(ValueError, match=r"xlstm with seed 1 is not trained.*gru \(seed 1\)"):
        choose_model(tmp_path, "xlstm", 1)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": "gru"}'])
def test_damaged_records_are_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "artifacts" / "models" / "gru" / "seed_0"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(content)
    with pytest.raises(ValueError, match=r"record\.json is damaged"):
        trained_models(tmp_path)


def test_without_a_model_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no trained model\. Run the experiment: assay run"):
        choose_model(tmp_path)


def test_popularity_answers_with_training_counts(project: Path, prepared) -> None:
    opened = Workspace.open(project, "xlstm")
    (best,) = opened.service.answer([opened.query_of_user("nobody")], top_k=3)
    counts = np.sort(prepared.item_counts)[::-1]
    assert best.scores == counts[:3].tolist()
