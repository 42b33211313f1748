"""MLflow may be away at any time: nothing is lost, nothing arrives twice, order is kept."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking import delivery
from tasks.tracking.journal import Journal
from tests.tracking.conftest import children, epoch_row, parents, runs, toy_settings, train

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture
def away(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that can't be reached, until the returned function is called."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    yield lambda: monkeypatch.delenv("MLFLOW_TRACKING_URI")
    delivery.forget_store(NOBODY)


def test_a_training_survives_a_server_that_is_away(
    settings: Settings,
    workspace: Path,
    client: Any,
    away: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(settings, workspace, "popularity")
    assert "can't be reached" in caplog.text
    assert "records wait in" in caplog.text
    assert runs(client) == {}

    away()
    train(settings, workspace, "gru")

    (parent,) = parents(client)
    assert set(children(client, parent)) == {"popularity seed 0", "gru seed 0"}
    history = client.get_metric_history(runs(client)["popularity seed 0"].info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]
    assert delivery.count_waiting(workspace) == 0


def test_a_server_that_goes_in_the_middle_gets_the_rest_later(
    settings: Settings, workspace: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        run.on_epoch(epoch_row(1))
        tracking.deliver(workspace)
        assert [point.step for point in _losses(client)] == [1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        run.on_epoch(epoch_row(2))
        assert tracking.deliver(workspace).problem
        run.on_epoch(epoch_row(3))
    # Away at the end too, as the experiment is closed.
    tracking.end_experiment(workspace)
    assert [point.step for point in _losses(client)] == [1]

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    delivery.forget_store(NOBODY)
    tracking.deliver(workspace)

    points = _losses(client)
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == [4.0, 3.0, 2.0]
    assert {run.info.status for run in runs(client).values()} == {"FINISHED"}


MOMENTS = ("start", "middle", "end")


@pytest.mark.parametrize(
    "away_at",
    [*[(moment,) for moment in MOMENTS], ("start", "end"), MOMENTS],
    ids=lambda moments: " and ".join(moments),
)
def test_whenever_mlflow_is_away_points_arrive_later_in_order_and_once(
    away_at: tuple[str, ...],
    settings: Settings,
    workspace: Path,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    arrived: list[int] = []
    log_batch = type(client).log_batch

    def spy(self: Any, run_id: str, metrics: Any = (), *rest: Any, **more: Any) -> Any:
        done = log_batch(self, run_id, metrics, *rest, **more)
        arrived.extend(point.step for point in metrics if point.key == "train/loss")
        return done

    monkeypatch.setattr(type(client), "log_batch", spy)

    def at(moment: str) -> None:
        """MLflow goes or comes back."""
        if moment in away_at:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
            delivery.forget_store(NOBODY)

    at("start")
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        run.on_epoch(epoch_row(1))
        tracking.deliver(workspace)
        assert arrived == ([] if "start" in away_at else [1])
        at("middle")
        run.on_epoch(epoch_row(2))
        tracking.deliver(workspace)
        assert arrived == ([1, 2] if "middle" not in away_at else [] if "start" in away_at else [1])
        run.on_epoch(epoch_row(3))
        at("end")
    tracking.end_experiment(workspace)
    at("back")
    tracking.deliver(workspace)

    assert arrived == [1, 2, 3]
    assert {found.info.status for found in runs(client).values()} == {"FINISHED"}
    assert delivery.count_waiting(workspace) == 0


def test_a_clock_that_is_set_back_mixes_nothing_up(
    settings: Settings, workspace: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(10**12, 0, -1000))
    monkeypatch.setattr(tracking.run, "now", lambda: next(times))

    train(settings, workspace, "gru")
    train(settings, workspace, "popularity")

    (parent,) = parents(client)
    assert set(children(client, parent)) == {"gru seed 0", "popularity seed 0"}
    assert [point.step for point in _losses(client)] == [1, 2, 3]
    assert runs(client)["gru seed 0"].data.metrics["train/loss"] == 2.0
    assert delivery.count_waiting(workspace) == 0


def _losses(client: Any) -> list[Any]:
    found = runs(client)["gru seed 0"].info.run_id
    return sorted(client.get_metric_history(found, "train/loss"), key=lambda point: point.step)


def test_after_a_failure_the_server_is_not_asked_again_for_a_minute(
    settings: Settings, workspace: Path, away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    real = delivery.Store
    monkeypatch.setattr(delivery, "Store", lambda uri: tries.append(uri) or real(uri))

    train(settings, workspace, "popularity")
    train(settings, workspace, "gru")

    assert tries == [NOBODY]


def test_delivering_again_changes_nothing(settings: Settings, workspace: Path, client: Any) -> None:
    train(settings, workspace, "gru")
    before = _everything(client)
    for path in (workspace / ".assay" / "spool").glob("*.jsonl"):
        # As if the process had been killed after delivering and before noting it.
        kept = [e.record for e in Journal(path).entries() if "path" not in e.record]
        Journal(path).remove()
        Journal(path).append(kept)

    outcome = tracking.deliver(workspace)

    assert outcome.problem == ""
    assert outcome.refused == 0
    assert outcome.delivered > 5
    assert _everything(client) == before


def test_what_mlflow_refuses_holds_up_nothing(
    settings: Settings, workspace: Path, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        run.log_params({"data": {"split": "another value for the same key"}})
        run.log.add("nonsense")
        run.log_params({"kept": 1})

    found = runs(client)["gru seed 0"]
    assert found.data.params["kept"] == "1"
    assert found.info.status == "FINISHED"
    spool = workspace / ".assay" / "spool"
    refused = [json.loads(line) for line in (spool / "refused.jsonl").read_text().splitlines()]
    assert [record["op"] for record in refused] == ["params", "nonsense"]
    assert "data.split" in refused[0]["reason"]
    assert "refused a record" in caplog.text


def test_an_older_database_is_upgraded_and_a_copy_kept(settings: Settings, workspace: Path) -> None:
    path = workspace / ".assay" / "mlflow.db"
    newest = _version(path)
    _downgrade(path)
    assert _version(path) != newest

    train(settings, workspace, "gru")

    assert _version(path) == newest
    assert _version(path.with_suffix(".before-upgrade.db")) != newest
    assert delivery.count_waiting(workspace) == 0


def _version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(version)


def _downgrade(path: Path) -> None:
    """Take the last migration back, if it can be; else skip."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    try:
        command.downgrade(_get_alembic_config(f"sqlite:///{path}"), "-1")
    except NotImplementedError:
        pytest.skip("MLflow's newest migration can't be taken back")


def _everything(client: Any) -> dict[str, Any]:
    return {
        name: (
            run.info.run_id,
            run.info.status,
            run.data.params,
            run.data.tags,
            {
                key: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
        )
        for name, run in runs(client).items()
    }


def _train_in_process(folder: str, number: int) -> None:
    workspace = Path(folder) / f"workspace_{number}"
    workspace.mkdir()
    train(toy_settings(), workspace, "gru")


@pytest.mark.long
def test_eight_processes_share_a_store_that_does_not_exist_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_train_in_process, args=(str(tmp_path), number))
        for number in range(8)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 8
    client = MlflowClient(uri)
    listed = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(listed) == 16
    for number in range(8):
        assert delivery.count_waiting(tmp_path / f"workspace_{number}") == 0
    delivery.forget_store(uri)
