"""The project's own DAG on a small generated log: DVC, the flow and MLflow tell the same story."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import load_settings, settings_from_dict, write_params
from tasks.tracking import delivery

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.xdist_group("prefect"),
]
SETTINGS = {
    "experiment": {"name": "small", "models": ["popularity", "gru", "xlstm"]},
    "data": {"source": "synthetic", "synthetic": {"num_users": 150, "num_items": 40}},
    "train": {
        "shared": {"max_epochs": 2, "max_seq_len": 20},
        "gru": {"embedding_dim": 16},
        "xlstm": {"embedding_dim": 16},
    },
    "evaluate": {"bootstrap_samples": 100},
}


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone of the project with small settings."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("flows", "tasks", "xlstm_model"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(repository / name, folder / name)
    write_params(settings_from_dict(SETTINGS), folder / "params.yaml")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q", "-f"]):
        subprocess.run(command, cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


def test_dvc_the_flow_and_mlflow_agree(project: Path, prefect_server: None) -> None:
    from flows.experiment import experiment

    # Plain DVC, no Prefect: the first stage that logs begins the parent, the report ends it.
    _repro(project)
    (first,) = _parents(project)
    assert first.info.status == "FINISHED"
    assert set(_children(project, first)) == {"popularity seed 0", "gru seed 0", "xlstm seed 0"}

    # The flow finds the same lock file: nothing to do, nothing logged.
    result = experiment(workspace=str(project))
    assert set(result.outcomes.values()) == {"unchanged"}
    assert len(_parents(project)) == 1

    # One setting of the xLSTM: only it and what follows run; MLflow shows all models again.
    settings = load_settings(project / "params.yaml", ["train.xlstm.dropout=0.3"])
    write_params(settings, project / "params.yaml")
    result = experiment(workspace=str(project))
    assert {stage for stage, outcome in result.outcomes.items() if outcome == "ran"} == {
        "check",
        "train@xlstm-0",
        "evaluate",
        "diagnose",
        "report",
    }
    _, second = _parents(project)
    assert second.info.status == "FINISHED"
    assert second.data.tags["prefect.flow_run_name"] == "experiment project"
    old, new = _children(project, first), _children(project, second)
    assert set(new) == set(old)
    for model in ("popularity", "gru"):
        linked, original = new[f"{model} seed 0"], old[f"{model} seed 0"]
        assert linked.data.tags["assay.reused_from"] == original.info.run_id
        assert linked.data.tags["assay.stage_hash"] == original.data.tags["assay.stage_hash"]
    trained = new["xlstm seed 0"]
    assert "assay.reused_from" not in trained.data.tags
    assert trained.data.params["model.dropout"] == "0.3"
    assert any(name.startswith("watch/gate/") for name in trained.data.metrics)
    assert all("test/ndcg_at_10" in run.data.metrics for run in new.values())
    assert trained.data.tags["diagnosis"] == second.data.tags["diagnosis"] == "healthy"
    assert new["gru seed 0"].data.tags["diagnosis.mode"] == "exact"
    assert delivery.count_waiting(project) == 0
    assert "didn't change, skipping" in _repro(project)


def test_the_nightly_flow_keeps_a_champion(project: Path, prefect_server: None) -> None:
    from flows.retrain import retrain

    night = retrain(workspace=str(project))

    assert night["workspace"] == str(project / "runs" / "nightly")
    assert night["champion"].endswith("version 1")
    assert night["decision"] == "champion: the first model registered"
    assert (project / "runs" / "nightly" / "artifacts" / "report" / "report.html").exists()
    # Nothing new in the log: the next night trains nothing.
    assert retrain(workspace=str(project)) == night


def _repro(project: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _client(project: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking.store_uri(project))


def _parents(project: Path) -> list[Any]:
    client = _client(project)
    listed = client.search_runs(
        [client.get_experiment_by_name("small").experiment_id],
        "tags.`assay.kind` = 'experiment'",
        order_by=["attributes.start_time ASC"],
    )
    return list(listed)


def _children(project: Path, parent: Any) -> dict[str, Any]:
    listed = _client(project).search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return {run.info.run_name: run for run in listed}
