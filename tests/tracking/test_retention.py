"""Old MLflow runs go with their models and files; what is needed stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking import delivery, retention
from tests.tracking.conftest import parents, train, write_evaluation

NOBODY_WAITS = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture
def nights(settings: Settings, workspace: Path, client: Any) -> list[Any]:
    """Four experiments, oldest first; the model of the second is champion."""
    for night, ranks in enumerate(([9, 9, 9] * 20, [1, 1, 1] * 20, [5, 5, 5] * 20, [6, 6, 6] * 20)):
        tracking.begin_experiment(workspace, {})
        train(settings, workspace, "gru", favourite=1 + night % 4)
        write_evaluation(workspace, {"gru": ranks})
        tracking.log_evaluation(settings, workspace)
        tracking.end_experiment(workspace)
    return parents(client)


def test_all_but_the_newest_and_the_champion_go(
    nights: list[Any], workspace: Path, client: Any
) -> None:
    old = retention.old_experiments(workspace, keep=1)
    assert [each.run_ids[0] for each in old] == [nights[n].info.run_id for n in (0, 2)]
    store = workspace / ".assay" / "mlartifacts"
    before = sum(1 for _ in store.rglob("*"))

    retention.remove_experiments(workspace, old)

    assert [run.info.run_id for run in parents(client)] == [nights[n].info.run_id for n in (1, 3)]
    assert sum(1 for _ in store.rglob("*")) < 0.7 * before
    champion = tracking.read_champion(workspace, "toy")
    assert champion is not None
    assert champion.version == "2"
    assert len(client.search_model_versions("name = 'assay-toy'")) == 2
    assert retention.old_experiments(workspace, keep=1) == []


def test_delivered_journals_go_and_waiting_ones_stay(
    settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings, workspace, "gru")
    tracking.end_experiment(workspace)
    spool = workspace / ".assay" / "spool"
    (spool / "files" / "orphan").mkdir(parents=True)
    assert [path.suffix for path in retention.old_spool_files(workspace)].count(".jsonl") == 2

    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY_WAITS)
    train(settings, workspace, "popularity")
    assert retention.old_spool_files(workspace) == [spool / "files" / "orphan"]

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    delivery.forget_store(NOBODY_WAITS)
    assert tracking.deliver(workspace).problem == ""
    assert delivery.count_waiting(workspace) == 0


def test_without_a_store_there_is_nothing_old(tmp_path: Path) -> None:
    assert retention.old_experiments(tmp_path, keep=1) == []
    assert retention.old_spool_files(tmp_path) == []
