"""A training that was killed goes on in the same run, without a point twice or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.settings import Settings
from tests.tracking.conftest import children, epoch_row, parents, runs, toy_settings


def killed_after(settings: Settings, workspace: Path, epochs: int) -> None:
    """Log as a process does that is killed: nothing is closed, nothing delivered."""
    run = tracking.experiment._open_child(settings, workspace, "gru", 0)
    for epoch in range(1, epochs + 1):
        run.on_steps([{"step": epoch, "grad/norm": 1.0}])
        run.on_epoch(epoch_row(epoch))


def test_a_killed_training_continues_its_run(
    settings: Settings, workspace: Path, client: Any
) -> None:
    killed_after(settings, workspace, epochs=3)

    with tracking.model_run(settings, workspace, "gru", 0) as run:
        # The checkpoint is older than the last epoch that was logged.
        for epoch in (2, 3, 4):
            run.on_steps([{"step": epoch, "grad/norm": 1.0}])
            run.on_epoch(epoch_row(epoch))

    (parent,) = parents(client)
    (found,) = children(client, parent).values()
    assert found.info.status == "FINISHED"
    assert "assay.resumed" in found.data.tags
    for name in ("train/loss", "grad/norm"):
        history = client.get_metric_history(found.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3, 4]


def test_a_run_under_other_settings_is_not_continued(
    settings: Settings, workspace: Path, client: Any
) -> None:
    killed_after(settings, workspace, epochs=1)

    with tracking.model_run(toy_settings(train={"gru": {"num_layers": 2}}), workspace, "gru", 0):
        pass

    found = runs(client)["gru seed 0"]
    assert found.data.params["model.num_layers"] == "2"
    listed = client.search_runs([found.info.experiment_id], "tags.`assay.model` = 'gru'")
    assert sorted(run.info.status for run in listed) == ["FINISHED", "KILLED"]


def test_a_retry_within_a_flow_continues_even_a_finished_run(
    settings: Settings, workspace: Path, client: Any
) -> None:
    tracking.begin_experiment(workspace, {"prefect.flow_run_name": "nightly"})
    for _ in range(2):
        with tracking.model_run(settings, workspace, "gru", 0) as run:
            run.on_epoch(epoch_row(1))
    tracking.end_experiment(workspace)

    (parent,) = parents(client)
    assert parent.data.tags["prefect.flow_run_name"] == "nightly"
    assert parent.info.status == "FINISHED"
    (found,) = children(client, parent).values()
    assert len(client.get_metric_history(found.info.run_id, "train/loss")) == 1


def test_an_experiment_with_nothing_to_do_leaves_no_run(workspace: Path, client: Any) -> None:
    tracking.begin_experiment(workspace, {})
    tracking.end_experiment(workspace)

    assert runs(client) == {}
