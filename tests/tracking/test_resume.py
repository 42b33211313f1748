"""A training that was killed goes on in the same run, without a point twice or missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking import delivery
from tests.tracking.conftest import (
    children,
    epoch_row,
    parents,
    runs,
    toy_settings,
    train,
    write_evaluation,
)


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
    for name in ("train/loss", "watch/grad/norm"):
        history = client.get_metric_history(found.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["state", "journal", "journal_start", "both_marks"])
def test_a_power_cut_costs_neither_run_nor_points(
    settings: Settings, workspace: Path, client: Any, damage: str
) -> None:
    killed_after(settings, workspace, epochs=3)
    tracking.deliver(workspace)
    before = runs(client)["gru seed 0"].info.run_id
    local = workspace / ".assay"
    (journal,) = [p for p in (local / "spool").glob("*.jsonl") if b"gru seed 0" in p.read_bytes()]
    if damage == "state":
        os.truncate(local / "mlflow.json", 30)
    else:
        os.truncate(journal, 20 if damage == "journal_start" else journal.stat().st_size - 150)
    if damage == "both_marks":
        for mark in (local / "spool").glob("*.delivered"):
            os.truncate(mark, 0)

    with tracking.model_run(settings, workspace, "gru", 0) as run:
        # What the training says on its start: everything its checkpoint knows of.
        for epoch in (1, 2, 3, 4):
            run.on_steps([{"step": epoch, "grad/norm": 1.0}])
            run.on_epoch(epoch_row(epoch))

    found = runs(client)["gru seed 0"]
    assert found.info.run_id == before
    assert found.info.status == "FINISHED"
    assert len(parents(client)) == 1
    for name in ("train/loss", "watch/grad/norm"):
        history = client.get_metric_history(before, name)
        assert sorted({point.step for point in history}) == [1, 2, 3, 4]
    assert delivery.count_waiting(workspace) == 0


def test_the_same_numbers_again_are_not_a_second_point(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "gru")
    write_evaluation(workspace, {"gru": [1, 2, 3]})
    for _ in range(2):
        # As when the stage was killed at its very end.
        tracking.log_evaluation(settings, workspace)

    found = runs(client)["gru seed 0"].info.run_id
    assert len(client.get_metric_history(found, "test/ndcg_at_10")) == 1


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


def interrupted_flow(settings: Settings, workspace: Path, *, how: str) -> None:
    """One model is trained, the next one's training ends in the middle, and the flow with it."""
    tracking.begin_experiment(workspace, {"prefect.flow_run_name": "first"}, settings)
    train(settings, workspace, "popularity")
    killed_after(settings, workspace, epochs=2)
    if how == "ended":
        tracking.end_experiment(workspace, "KILLED")


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_killed_flow_goes_on_in_its_run(
    how: str, settings: Settings, workspace: Path, client: Any
) -> None:
    interrupted_flow(settings, workspace, how=how)

    tracking.begin_experiment(workspace, {"prefect.flow_run_name": "second"}, settings)
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        for epoch in (2, 3):
            run.on_epoch(epoch_row(epoch))
        delivery.deliver(workspace)
        assert parents(client)[0].info.status == "RUNNING"
        assert runs(client)["gru seed 0"].info.status == "RUNNING"
    tracking.end_experiment(workspace)

    (parent,) = parents(client)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["prefect.flow_run_name"] == "second"
    found = children(client, parent)
    assert set(found) == {"popularity seed 0", "gru seed 0"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    history = client.get_metric_history(found["gru seed 0"].info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]


@pytest.mark.parametrize("how", ["killed", "ended"])
@pytest.mark.parametrize("change", ["settings", "data", "data_later"])
def test_a_killed_flow_under_other_settings_or_data_is_not_continued(
    change: str, how: str, settings: Settings, workspace: Path, client: Any
) -> None:
    interrupted_flow(settings, workspace, how=how)
    manifest = workspace / "data" / "prepared" / "manifest.json"
    if change == "settings":
        settings = toy_settings(evaluate={"bootstrap_samples": 101})
    elif change == "data":
        manifest.write_text('{"data_hash": "other"}')

    tracking.begin_experiment(workspace, {}, settings)
    if change == "data_later":
        manifest.write_text('{"data_hash": "other"}')
    train(settings, workspace, "gru")
    tracking.end_experiment(workspace)

    first, second = parents(client)
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert set(children(client, first)) == {"popularity seed 0", "gru seed 0"}
    assert set(children(client, second)) == {"gru seed 0"}


def test_a_killed_flow_with_nothing_left_to_log_is_closed(
    settings: Settings, workspace: Path, client: Any
) -> None:
    tracking.begin_experiment(workspace, {}, settings)
    train(settings, workspace, "gru")
    tracking.end_experiment(workspace, "KILLED")
    assert parents(client)[0].info.status == "KILLED"

    tracking.begin_experiment(workspace, {}, settings)
    tracking.end_experiment(workspace)

    assert [run.info.status for run in parents(client)] == ["FINISHED"]


def test_what_a_stage_logged_is_on_the_disk_when_it_ends(
    settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.add(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setenv(tracking.experiment.DELIVER_LATER, "1")

    train(settings, workspace, "gru")

    spool = tracking.state.spool_folder(workspace)
    journals = {path.stat().st_ino for path in spool.glob("[0-9]*.jsonl")}
    assert len(journals) == 2
    assert journals <= synced
