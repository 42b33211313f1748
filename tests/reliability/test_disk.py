"""A disk that is full or can't be written: a clear error, and what was there stays."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.__main__ import main
from tests.reliability.conftest import LATER_STAGES, STAGES, outputs


def fill(folder: Path, spare: int) -> Path:
    """Fill the disk but for some bytes; returns the file that takes the space."""
    ballast = folder.parent / "ballast"
    free = shutil.disk_usage(folder).free - spare
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    return ballast


@pytest.mark.parametrize("name", STAGES, ids=lambda name: name.replace(" ", "_"))
def test_a_full_disk_is_said_and_costs_nothing(
    name: str, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_full_disk(list(STAGES[name]), small_disk, capsys)


@pytest.mark.long
@pytest.mark.parametrize("name", ["diagnose", "report"])
def test_a_full_disk_in_a_later_stage_too(
    name: str, small_disk_of_all: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_full_disk(list(LATER_STAGES[name]), small_disk_of_all, capsys, spare=0)


@pytest.mark.long
def test_a_full_disk_keeps_the_gate_to_training_shut(
    small_disk_of_all: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(small_disk_of_all)
    # As DVC does before a stage runs; the room the old findings took would be enough.
    shutil.rmtree(small_disk_of_all / "artifacts" / "checks")
    without = outputs(small_disk_of_all)
    ballast = fill(small_disk_of_all, 0)

    assert main(["check"]) == 1

    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "space" in said.lower()
    assert outputs(small_disk_of_all) == without
    ballast.unlink()
    assert main(["check"]) == 0
    assert outputs(small_disk_of_all) == before


def check_full_disk(
    command: list[str], disk: Path, capsys: pytest.CaptureFixture[str], spare: int = 4096
) -> None:
    """A stage fails with a message, leaves what was there, and works once there is room."""
    before = outputs(disk)
    ballast = fill(disk, spare)

    assert main(command) == 1

    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "space" in said.lower()
    assert outputs(disk) == before
    ballast.unlink()
    assert main(command) == 0
    assert outputs(disk) == before


@pytest.mark.parametrize("name", STAGES, ids=lambda name: name.replace(" ", "_"))
def test_a_folder_that_can_not_be_written_is_said(
    name: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_read_only(list(STAGES[name]), workspace, capsys)


def test_a_workspace_where_nothing_can_be_written_is_said(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = workspace / ".assay" / "locks"
    before = outputs(workspace)
    if subprocess.run(["chattr", "+i", str(local)], check=False, capture_output=True).returncode:
        pytest.skip("folders can't be made read-only for root here")
    try:
        # A seed that was never trained has no lock file yet.
        assert main(["train", "--model", "popularity", "--seed", "7"]) == 1
    finally:
        subprocess.run(["chattr", "-i", str(local)], check=True)

    said = capsys.readouterr().err
    assert "not permitted" in said
    assert str(local) in said
    assert "Traceback" not in said
    assert outputs(workspace) == before


@pytest.mark.long
@pytest.mark.parametrize("name", ["diagnose", "report"])
def test_a_folder_that_can_not_be_written_is_said_by_later_stages(
    name: str,
    all_finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(all_finished, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    check_read_only(list(LATER_STAGES[name]), tmp_path / "workspace", capsys)


def check_read_only(
    command: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage fails with a message that names a place, and leaves what was there."""
    before = outputs(workspace)
    below = [path for path in workspace.rglob("*") if path.is_dir()]
    # Locks and checkpoints can be written: it is the outputs that can't.
    folders = [workspace, *(path for path in below if ".assay" not in path.parts)]
    change = subprocess.run(["chattr", "+i", *map(str, folders)], check=False, capture_output=True)
    if change.returncode:
        subprocess.run(["chattr", "-i", *map(str, folders)], check=False, capture_output=True)
        pytest.skip("folders can't be made read-only for root here")
    try:
        assert main(command) == 1
    finally:
        subprocess.run(["chattr", "-i", *map(str, folders)], check=True)

    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "not permitted" in said
    assert any(f"{workspace}/{place}" in said for place in ("data", "artifacts"))
    assert outputs(workspace) == before
