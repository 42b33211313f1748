from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tests.tracking.conftest import runs, train


def test_an_export_becomes_an_artifact_of_the_models_run(
    settings: Settings, workspace: Path, client: Any
) -> None:
    train(settings, workspace, "gru")
    folder = workspace / "exported"
    folder.mkdir()
    (folder / "scores.pt2").write_bytes(b"program")
    tracking.log_export(workspace, "gru", 0, folder)
    run = runs(client)["gru seed 0"]
    listed = client.list_artifacts(run.info.run_id, "export")
    assert [each.path for each in listed] == ["export/scores.pt2"]
    assert run.info.status == "FINISHED"


def test_without_a_run_there_is_nothing_to_add_to(workspace: Path) -> None:
    with pytest.raises(ValueError, match="no MLflow run of gru with seed 3"):
        tracking.log_export(workspace, "gru", 3, workspace)
