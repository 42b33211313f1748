"""DVC on the project's own DAG: push and pull to a local remote, experiments, differences."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.quiet import TELEMETRY_OFF
from tasks.settings import apply_overrides, settings_from_dict, write_params

pytestmark = pytest.mark.long


def run(folder: Path, *command: str) -> str:
    """Run a command that has to succeed and return what it printed."""
    first = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        **TELEMETRY_OFF,
        "PATH": os.pathsep.join([first, os.environ["PATH"]]),
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copyfile(repository / name, folder / name)
    for name in ("tasks", "xlstm_model", "flows"):
        shutil.copytree(
            repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    rows = [f"u{u},i{(u + t) % 7},{1_600_000_000 + 60 * t}" for u in range(12) for t in range(6)]
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    overrides = ["data.source=file", "data.path=log.csv", "tracking.enabled=false"]
    overrides.append("experiment.models=[popularity, transitions]")
    write_params(settings_from_dict(apply_overrides({}, overrides)), folder / "params.yaml")
    run(folder, "git", "init", "-q", ".")
    run(folder, "dvc", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "start")
    return folder


def test_push_pull_experiments_and_differences(project: Path, tmp_path: Path) -> None:
    run(project, "dvc", "repro", "train")
    run(project, "git", "add", "dvc.lock")
    run(project, "git", "commit", "-q", "-m", "results")
    items = project / "data" / "prepared" / "train.items.npy"
    before = items.read_bytes()

    run(project, "dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    run(project, "dvc", "push", "prepare")
    shutil.rmtree(project / "data" / "prepared")
    shutil.rmtree(project / ".dvc" / "cache")
    run(project, "dvc", "pull", "prepare")
    assert items.read_bytes() == before

    run(project, "dvc", "exp", "run", "-S", "train.transitions.smoothing=3.0", "train")
    changed = run(project, "dvc", "params", "diff")
    assert "train.transitions.smoothing" in changed
    assert "3.0" in changed
    assert "popularity" not in run(project, "dvc", "status", "train")
