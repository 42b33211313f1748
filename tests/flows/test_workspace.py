"""Run workspaces: overrides get a folder of their own and leave params.yaml alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.workspace import find_project, open_workspace
from tasks.lock import WorkspaceBusyError, experiment_lock
from tasks.settings import SettingsError, load_settings


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copyfile(repository / name, folder / name)
    for name in ("tasks", "xlstm_model", "flows"):
        (folder / name).mkdir()
    return folder


def test_without_overrides_the_project_is_the_workspace(project: Path) -> None:
    below = project / "docs"
    below.mkdir()
    workspace = open_workspace(below)
    assert workspace.folder == project
    assert workspace.is_project
    assert not (project / "runs").exists()


def test_overrides_get_a_folder_and_params_stay(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    workspace = open_workspace(project, overrides=["train.xlstm.num_heads=4"])
    assert (project / "params.yaml").read_bytes() == before
    assert workspace.folder.parent == project / "runs"
    assert "num_heads=4" in workspace.folder.name
    assert load_settings(workspace.folder / "params.yaml").train.xlstm.num_heads == 4
    assert (workspace.folder / "tasks").resolve() == project / "tasks"
    assert (workspace.folder / ".dvc" / "config").is_file()
    assert find_project(workspace.folder) == project


def test_the_same_overrides_reuse_the_folder(project: Path) -> None:
    first = open_workspace(project, overrides=["data.split=temporal"])
    again = open_workspace(project, overrides=["data.split=temporal"])
    other = open_workspace(project, overrides=["data.split=temporal", "experiment.seeds=[1]"])
    assert first.folder == again.folder != other.folder


def test_a_users_log_becomes_an_input_of_fetch(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "my log.csv"
    log.write_text("user_id,item_id,timestamp\n", encoding="utf-8")
    overrides = ["data.source=file", "data.path=my log.csv"]
    workspace = open_workspace(tmp_path / "project", overrides=_from(tmp_path, overrides, log))
    dag = YAML(typ="safe").load((workspace.folder / "dvc.yaml").read_text(encoding="utf-8"))
    assert str(log) in dag["stages"]["fetch"]["deps"]


def _from(folder: Path, overrides: list[str], log: Path) -> list[str]:
    return [override.replace("my log.csv", f'"{log}"') for override in overrides]


def test_what_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not inside an Assay project"):
        open_workspace(tmp_path)
    with pytest.raises(SettingsError, match="no such file"):
        open_workspace(project, overrides=["data.source=file", "data.path=none.csv"])
    for name in ("../x", "a/b", ".hidden", "x" * 81, "-x", "a b"):
        with pytest.raises(SettingsError, match="can't be a folder name"):
            open_workspace(project, name=name)
    assert not (project / "runs").exists()


def test_a_new_run_prints_nothing(toy: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from flows.workspace import open_workspace\n"
        "open_workspace(pathlib.Path(sys.argv[1]), overrides=['train.gru.num_layers=2'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(toy)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "", "the standard output belongs to --json"


def test_settings_of_a_run_in_progress_are_not_replaced(project: Path) -> None:
    folder = open_workspace(project, overrides=["train.gru.dropout=0.1"], name="nightly").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    with (
        experiment_lock(folder, "flow run nightly"),
        pytest.raises(WorkspaceBusyError, match=r"flow run nightly.*--name NAME"),
    ):
        open_workspace(project, overrides=["train.gru.dropout=0.9"], name="nightly")

    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before
    open_workspace(project, overrides=["train.gru.dropout=0.9"], name="nightly")
    assert load_settings(folder / "params.yaml").train.gru.dropout == 0.9
