"""The compare page shows all models, whichever were trained anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks import tracking
from tasks.settings import Settings
from tests.tracking.conftest import (
    children,
    parents,
    save_model,
    toy_settings,
    train,
    write_evaluation,
)

RANKS = {"popularity": [3, 3, 20, 3], "gru": [1, 1, 20, 2]}


def finish(settings: Settings, workspace: Path) -> None:
    """Evaluate and report."""
    write_evaluation(workspace, RANKS)
    tracking.log_evaluation(settings, workspace)
    report = workspace / "artifacts" / "report"
    report.mkdir(parents=True, exist_ok=True)
    (report / "report.html").write_text("<p>A report</p>")
    tracking.log_report(settings, workspace)


def test_each_model_gets_its_test_metrics_and_the_parent_an_overview(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")
    finish(settings, workspace)

    (parent,) = parents(client)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["assay.best_model"] == "gru"
    found = children(client, parent)
    assert found["gru seed 0"].data.metrics["test/hit_rate_at_1"] == 0.5
    assert found["popularity seed 0"].data.metrics["test/hit_rate_at_10"] == 0.75
    expected = found["gru seed 0"].data.metrics["test/ndcg_at_10"]
    assert parent.data.metrics["test_ndcg_at_10/gru"] == pytest.approx(expected)
    listed = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert listed == {"evaluation", "report"}


def test_models_that_were_skipped_are_linked_by_their_lock_entry(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")
    write_lock(workspace, {"popularity": "1" * 32, "gru": "2" * 32})
    finish(settings, workspace)
    (first,) = parents(client)

    # Another training of the GRU; DVC skips popularity, whose entry stays as it was.
    train(settings, workspace, "gru", favourite=2)
    write_lock(workspace, {"popularity": "1" * 32, "gru": "3" * 32})
    finish(settings, workspace)

    second = parents(client)[1]
    original = children(client, first)["popularity seed 0"]
    linked = children(client, second)["popularity seed 0"]
    trained = children(client, second)["gru seed 0"]
    assert linked.data.tags["assay.reused_from"] == original.info.run_id
    assert linked.data.tags["assay.stage_hash"] == original.data.tags["assay.stage_hash"]
    assert linked.data.tags["dvc.stage"] == "train@popularity-0"
    assert linked.data.params == original.data.params
    for name in ("test/ndcg_at_10", "val/ndcg_at_10", "training/num_parameters"):
        assert name in linked.data.metrics
    assert [o.model_id for o in linked.outputs.model_outputs] == [
        o.model_id for o in original.outputs.model_outputs
    ]
    assert "assay.reused_from" not in trained.data.tags
    assert trained.data.tags["assay.stage_hash"] != original.data.tags["assay.stage_hash"]


def test_a_model_without_a_run_anywhere_is_logged_from_its_files(
    settings: Settings, workspace: Path, client: Any
) -> None:
    # As after `dvc pull` in a fresh clone.
    save_model(workspace, "popularity")
    train(settings, workspace, "gru")
    finish(settings, workspace)

    (parent,) = parents(client)
    found = children(client, parent)["popularity seed 0"]
    assert found.data.tags["assay.reused_from"] == "files"
    assert found.data.metrics["val/ndcg_at_10"] == 0.01
    assert len(found.outputs.model_outputs) == 1


def test_a_report_alone_still_shows_all_models(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")
    finish(settings, workspace)

    tracking.log_report(settings, workspace)

    second = parents(client)[1]
    found = children(client, second)
    assert set(found) == {"popularity seed 0", "gru seed 0"}
    assert found["gru seed 0"].data.metrics["test/hit_rate_at_1"] == 0.5


def test_a_flow_closes_its_parent_itself(settings: Settings, workspace: Path, client: Any) -> None:
    tracking.begin_experiment(workspace, {})
    train(settings, workspace, "gru")
    finish(settings, workspace)
    assert parents(client)[0].info.status == "RUNNING"

    tracking.end_experiment(workspace, "FAILED")

    assert parents(client)[0].info.status == "FAILED"


def test_switched_off_nothing_is_written(workspace: Path) -> None:
    settings = toy_settings(tracking={"enabled": False})
    save_model(workspace, "popularity")

    finish(settings, workspace)

    assert not (workspace / ".assay" / "spool").exists()


def test_models_of_another_folder_are_not_mixed_up(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")
    shutil.rmtree(workspace / "artifacts" / "models" / "popularity")
    finish(settings, workspace)

    (parent,) = parents(client)
    assert "test/ndcg_at_10" not in children(client, parent)["popularity seed 0"].data.metrics


def write_lock(workspace: Path, hashes: dict[str, str]) -> None:
    """Write a ``dvc.lock`` in which each model's output has the given hash."""
    stages = {
        f"train@{model}-0": {
            "cmd": f"python -m tasks train --model {model} --seed 0",
            "outs": [{"path": f"artifacts/models/{model}/seed_0", "md5": value}],
        }
        for model, value in hashes.items()
    }
    with (workspace / "dvc.lock").open("w", encoding="utf-8") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
