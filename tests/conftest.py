"""Fixtures every part of the suite may use."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Telemetry off before any tool is imported, as `make run` does for users.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

# An example may be slow on a busy machine: the first one imports what the others use.
hypothesis.settings.register_profile("assay", deadline=None)
hypothesis.settings.load_profile("assay")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Give Prefect a database of the tests' own, so that no run of theirs shows in the user's."""
    folder = tempfile.mkdtemp(prefix="assay-prefect-")
    os.environ["PREFECT_HOME"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real logs and reference vectors beside the checkout; skips where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name}/ beside the checkout: real logs are not available")
    return folder


@pytest.fixture(autouse=True)
def same_import_path(import_path: list[str]) -> Iterator[None]:
    """Take back what tests add to ``sys.path``: a loaded MLflow model adds its own code.

    Processes a later test starts inherit the path, and would import half of the program from there.
    """
    sys.path[:] = import_path
    yield
    sys.path[:] = import_path


@pytest.fixture(scope="session")
def import_path() -> list[str]:
    """``sys.path`` before the first test."""
    return list(sys.path)
