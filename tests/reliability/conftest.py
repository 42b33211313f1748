"""A tiny experiment whose stages run in this process, and a folder on a disk of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.reliability.outputs import digest_outputs
from tasks.__main__ import main
from tasks.settings import settings_from_dict, write_params

SETTINGS = {
    "experiment": {"name": "tiny", "models": ["popularity", "gru"]},
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 40, "num_items": 20, "min_length": 5, "max_length": 9},
    },
    "train": {
        "shared": {"max_epochs": 2, "max_seq_len": 8, "batch_size": 8, "checkpoint_every_steps": 3},
        "gru": {"embedding_dim": 8},
    },
    "evaluate": {"bootstrap_samples": 100},
    "diagnose": {"model": "gru"},
    "tracking": {"enabled": False},
}
STAGES = {
    "fetch": ("fetch",),
    "prepare": ("prepare",),
    "train popularity": ("train", "--model", "popularity"),
    "train gru": ("train", "--model", "gru"),
    "evaluate": ("evaluate",),
}
LATER_STAGES = {name: (name,) for name in ("check", "diagnose", "report")}
"""Stages that take seconds; what they leave is in `all_finished`."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage of `STAGES` has run; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("finished")
    write_params(settings_from_dict(SETTINGS), folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert [main(list(arguments)) for arguments in STAGES.values()] == [0] * len(STAGES)
    return folder


@pytest.fixture(scope="session")
def all_finished(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it in which all stages have run."""
    folder = tmp_path_factory.mktemp("all_finished") / "workspace"
    shutil.copytree(finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert [main(list(arguments)) for arguments in LATER_STAGES.values()] == [0, 0, 0]
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to stand in."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ASSAY_DEBUG", raising=False)
    return folder


@pytest.fixture
def small_disk(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it on a disk of its own; skips where disks can't be mounted."""
    with mounted_copy(finished, tmp_path / "disk", monkeypatch) as folder:
        yield folder


@pytest.fixture
def small_disk_of_all(
    all_finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The same with the outputs of all stages."""
    with mounted_copy(all_finished, tmp_path / "disk", monkeypatch) as folder:
        yield folder


@contextmanager
def mounted_copy(source: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy a workspace to a disk of some megabytes and stand in it."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk can't be mounted here (needs to be root)")
    try:
        folder = disk / "workspace"
        shutil.copytree(source, folder)
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            yield folder
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def outputs(folder: Path) -> dict[str, str]:
    """Digest of every output, times apart."""
    return digest_outputs(folder)
