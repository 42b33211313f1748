"""The project's own DAG, killed in the middle of a training: the next run goes on, in one run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.reliability.outputs import TIMES, digest_outputs
from tasks import tracking
from tasks.settings import settings_from_dict, write_params
from tasks.tracking import delivery

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500), pytest.mark.xdist_group("prefect")]
SETTINGS = {
    "experiment": {"name": "tiny", "models": ["popularity", "gru"], "parallel": 1},
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 60, "num_items": 20, "min_length": 5, "max_length": 12},
    },
    "train": {
        "shared": {
            "max_epochs": 40,
            "patience": 40,
            "max_seq_len": 8,
            "batch_size": 8,
            "record_every_steps": 5,
            "checkpoint_every_steps": 3,
        },
        "gru": {"embedding_dim": 8},
    },
    "evaluate": {"bootstrap_samples": 100},
    "diagnose": {"model": "gru", "before_training": "off"},
}
RUN = [sys.executable, "-m", "flows.cli", "run"]
WAIT_SECONDS = 300.0


def make_project(folder: Path, repository: Path) -> Path:
    """A fresh clone of the project with small settings."""
    folder.mkdir()
    for name in ("flows", "tasks", "xlstm_model"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(repository / name, folder / name)
    write_params(settings_from_dict(SETTINGS), folder / "params.yaml")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q", "-f"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def start(project: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if "MLFLOW_TR" not in name}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(RUN, cwd=project, env=environment, start_new_session=True, **output)


def run_to_its_end(project: Path) -> None:
    process = start(project)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said


def kill_while_training(project: Path) -> None:
    """Kill a run with all it started once its training has written checkpoints."""
    process = start(project)
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list((project / ".assay" / "checkpoints").rglob("step_*.json"))) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for child in family:
        if child.is_running():
            child.kill()
    psutil.wait_procs(family, timeout=60)
    process.communicate(timeout=120)


def logged(project: Path) -> dict[str, Any]:
    """Per run of MLflow its status and all its points, apart from times; and who its parent is."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking.store_uri(project))
    listed = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    (parent,) = [run for run in listed if run.data.tags.get("assay.kind") == "experiment"]
    found: dict[str, Any] = {}
    for run in listed:
        is_parent = run.info.run_id == parent.info.run_id
        name = "parent" if is_parent else run.info.run_name
        assert name not in found
        assert is_parent or run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        points = {
            metric: [
                (point.step, point.value)
                for point in client.get_metric_history(run.info.run_id, metric)
            ]
            for metric in run.data.metrics
            if not metric.startswith("system/") and metric.rpartition("/")[2] not in TIMES
        }
        found[name] = {"status": run.info.status, "points": points, "params": run.data.params}
    return found


def test_a_killed_run_goes_on_to_what_an_unbroken_one_leaves(
    tmp_path: Path, repository: Path
) -> None:
    unbroken = make_project(tmp_path / "unbroken", repository)
    run_to_its_end(unbroken)
    broken = make_project(tmp_path / "broken", repository)
    kill_while_training(broken)
    assert not (broken / "artifacts" / "models" / "gru").exists()

    run_to_its_end(broken)

    assert delivery.count_waiting(broken) == 0
    expected = logged(unbroken)
    assert set(expected) == {"parent", "popularity seed 0", "gru seed 0"}
    assert {run["status"] for run in expected.values()} == {"FINISHED"}
    assert logged(broken) == expected
    expected_outputs = without_report(digest_outputs(unbroken))
    assert len(expected_outputs) > 20
    assert without_report(digest_outputs(broken)) == expected_outputs
    status = [sys.executable, "-m", "dvc", "status"]
    told = subprocess.run(status, cwd=broken, capture_output=True, text=True, check=True)
    assert "up to date" in told.stdout


def without_report(outputs: dict[str, str]) -> dict[str, str]:
    """The report shows times and the folder it was made in."""
    return {name: digest for name, digest in outputs.items() if "artifacts/report/" not in name}
