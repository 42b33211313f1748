"""What a training logs arrives in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tests.tracking.conftest import children, epoch_row, parents, runs, toy_settings, train


def test_every_training_is_a_child_of_one_parent(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")

    (parent,) = parents(client)
    assert set(children(client, parent)) == {"popularity seed 0", "gru seed 0"}
    assert parent.info.status == "RUNNING"


def test_parameters_metrics_data_and_artifacts_arrive(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "gru")

    run = runs(client)["gru seed 0"]
    assert run.info.status == "FINISHED"
    assert run.data.params["model.num_layers"] == "1"
    assert run.data.params["train.loss"] == "cross_entropy"
    assert "model.pattern" not in run.data.params
    history = client.get_metric_history(run.info.run_id, "val/ndcg_at_10")
    assert [(point.step, point.value) for point in history] == [(1, 0.01), (2, 0.02), (3, 0.03)]
    assert run.data.metrics["watch/grad/norm"] == 0.5
    assert run.data.metrics["watch/steps/loss"] == 1.0
    assert run.data.metrics["train/seconds"] == 1.5
    assert run.data.metrics["system/process_memory_megabytes"] > 10
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("movielens-100k", "d" * 36)
    listed = {entry.path for entry in client.list_artifacts(run.info.run_id, "training")}
    assert listed == {f"training/{name}" for name in ("record.json", "epochs.jsonl", "steps.jsonl")}


def test_the_spool_is_empty_afterwards(settings: Settings, workspace: Path) -> None:
    train(settings, workspace, "gru")

    assert tracking.delivery.count_waiting(workspace) == 0
    assert list((workspace / ".assay" / "spool" / "files").iterdir()) == []
    assert not (workspace / ".assay" / "spool" / "refused.jsonl").exists()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("loss is NaN"), "FAILED", "ValueError: loss is NaN"),
        (KeyboardInterrupt(), "KILLED", ""),
    ],
)
def test_the_status_says_how_a_training_ended(
    error: BaseException, status: str, reason: str, settings: Settings, workspace: Path, client: Any
) -> None:
    def train_until_it_breaks() -> None:
        with tracking.model_run(settings, workspace, "gru", 0) as run:
            run.on_epoch(epoch_row(1))
            raise error

    with pytest.raises(type(error)):
        train_until_it_breaks()

    found = runs(client)["gru seed 0"]
    assert found.info.status == status
    assert found.data.tags.get("assay.error", "") == reason


def test_switched_off_nothing_is_written(workspace: Path, client: Any) -> None:
    train(toy_settings(tracking={"enabled": False}), workspace, "gru")

    assert runs(client) == {}
    assert not (workspace / ".assay" / "spool").exists()


def test_nothing_of_the_environment_is_logged(
    settings: Settings, workspace: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "secret-7531")
    train(settings, workspace, "gru")

    run = runs(client)["gru seed 0"]
    assert "secret-7531" not in f"{run.data.params} {run.data.tags} {run.inputs}"
    for path in (workspace / ".assay").rglob("*"):
        assert not path.is_file() or b"secret-7531" not in path.read_bytes()


def test_a_long_training_is_thinned(settings: Settings, workspace: Path, client: Any) -> None:
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        for first in range(0, 2000, 100):
            run.on_steps([{"step": step, "grad/norm": 1.0} for step in range(first, first + 100)])

    history = client.get_metric_history(runs(client)["gru seed 0"].info.run_id, "watch/grad/norm")
    steps = [point.step for point in history]
    assert steps[:256] == list(range(256))
    assert steps[-1] >= 1980
    assert len(steps) < 700


def test_the_same_model_again_begins_the_next_experiment(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "gru")
    train(toy_settings(train={"gru": {"num_layers": 2}}), workspace, "gru")

    first, second = parents(client)
    assert first.info.status == "FINISHED"
    assert children(client, first)["gru seed 0"].data.params["model.num_layers"] == "1"
    assert children(client, second)["gru seed 0"].data.params["model.num_layers"] == "2"


def test_seeds_share_an_experiment(settings: Settings, workspace: Path, client: Any) -> None:
    train(settings, workspace, "gru", 0)
    train(settings, workspace, "gru", 1)

    (parent,) = parents(client)
    assert set(children(client, parent)) == {"gru seed 0", "gru seed 1"}
