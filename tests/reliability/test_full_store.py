"""A store that answers and can't write, as on a full disk: records wait, none is given up."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking import connection, delivery
from tasks.tracking.connection import RefusedRecordError, StoreAwayError
from tests.reliability.conftest import mounted_copy
from tests.reliability.test_disk import fill
from tests.tracking.conftest import (  # noqa: F401 - fixtures
    children,
    client,
    empty_store,
    parents,
    runs,
    settings,
    train,
    workspace,
)


@pytest.fixture
def small_disk(
    workspace: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """The workspace of the tracking tests on a disk of its own."""
    place = tmp_path_factory.mktemp("small") / "disk"
    with mounted_copy(workspace, place, monkeypatch) as folder:
        yield folder
        delivery.forget_store(tracking.store_uri(folder))


def test_a_full_disk_while_delivering_loses_nothing(
    settings: Settings,  # noqa: F811
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv(tracking.experiment.DELIVER_LATER, "1")
    train(settings, small_disk, "gru")
    waiting = delivery.count_waiting(small_disk)
    assert waiting > 5
    ballast = fill(small_disk, 0)

    with pytest.raises(OSError, match="No space left on device"):
        tracking.end_experiment(small_disk)
    outcome = tracking.deliver(small_disk)

    assert "full" in outcome.problem or "No space left" in outcome.problem
    # The end of the run may have found room for its record, but not for its state.
    assert outcome.refused == 0
    assert waiting <= delivery.count_waiting(small_disk) <= waiting + 1
    spool = tracking.state.spool_folder(small_disk)
    assert not (spool / "refused.jsonl").exists()

    ballast.unlink()
    delivery.forget_store(tracking.store_uri(small_disk))
    tracking.end_experiment(small_disk)
    outcome = tracking.deliver(small_disk)

    assert (outcome.problem, outcome.waiting, outcome.refused) == ("", 0, 0)
    store = MlflowClient(tracking.store_uri(small_disk))
    (parent,) = parents(store)
    (found,) = children(store, parent).values()
    assert found.info.status == "FINISHED"
    history = store.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]


def test_folders_that_can_not_be_written_while_delivering_lose_nothing(
    settings: Settings,  # noqa: F811
    workspace: Path,  # noqa: F811
    client: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(tracking.experiment.DELIVER_LATER, "1")
    train(settings, workspace, "gru")
    delivery.forget_store(tracking.store_uri(workspace))
    folders = [str(workspace / ".assay"), str(tracking.state.spool_folder(workspace))]
    if subprocess.run(["chattr", "+i", *folders], check=False, capture_output=True).returncode:
        subprocess.run(["chattr", "-i", *folders], check=False, capture_output=True)
        pytest.skip("folders can't be made read-only for root here")
    try:
        outcome = tracking.deliver(workspace)
    finally:
        subprocess.run(["chattr", "-i", *folders], check=True)

    assert outcome.problem
    assert outcome.refused == 0
    delivery.forget_store(tracking.store_uri(workspace))
    assert tracking.deliver(workspace).waiting == 0
    run_id = runs(client)["gru seed 0"].info.run_id
    history = client.get_metric_history(run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]


def test_a_store_that_another_program_holds_is_waited_for(
    settings: Settings,  # noqa: F811
    workspace: Path,  # noqa: F811
    client: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(tracking.experiment.DELIVER_LATER, "1")
    train(settings, workspace, "gru")
    waiting = delivery.count_waiting(workspace)

    def busy(*_: object, **__: object) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

        raise MlflowException("(sqlite3.OperationalError) database is locked",
                              error_code=TEMPORARILY_UNAVAILABLE)  # fmt: skip

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_batch", busy)
        outcome = tracking.deliver(workspace)

    assert "database is locked" in outcome.problem
    assert outcome.refused == 0
    assert 0 < delivery.count_waiting(workspace) <= waiting
    delivery.forget_store(tracking.store_uri(workspace))
    assert tracking.deliver(workspace).waiting == 0
    assert runs(client)["gru seed 0"].data.metrics["train/loss"] == 2.0


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (FileNotFoundError(errno.ENOENT, "No such file", "copy"), False),
    ],
    ids=["full", "quota", "read_only", "sqlite", "copy_gone"],
)
def test_what_is_no_fault_of_a_record_is_known(error: Exception, may_pass: bool) -> None:
    from sqlalchemy.exc import OperationalError

    if isinstance(error, sqlite3.Error):
        error = OperationalError("INSERT", {}, error)
    with pytest.raises(StoreAwayError) as caught, connection.translated("sqlite:///x.db"):
        raise error
    assert caught.value.may_pass is may_pass


def test_a_record_of_no_run_is_still_refused(tmp_path: Path, empty_store: Path) -> None:  # noqa: F811
    path = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    store = tracking.store.Store(f"sqlite:///{path}")
    record = {"op": "metrics", "key": "nobody", "points": [["loss", 1.0, 1, 1]]}
    with pytest.raises(RefusedRecordError, match="no run with key nobody"):
        delivery._apply_or_refuse(store, record)
