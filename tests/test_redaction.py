"""No secret reaches a journal, and through it MLflow, or the log of a flow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flows.dag import Stage
from flows.process import Commands
from flows.reproduce import StageFailedError, run_stage
from tasks.tracking.journal import Journal

SECRET = 'tok"en-4711'


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)


def test_nothing_secret_is_journalled(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "1.jsonl")

    journal.append([{"op": "tags", "values": {"error": f"401 for {SECRET} at http://a:b@host/"}}])

    (entry,) = journal.entries()
    assert entry.record["values"]["error"] == "401 for *** at http://***@host/"
    assert "4711" not in journal.path.read_text()


def test_nothing_secret_is_logged_or_raised_by_a_stage(tmp_path: Path) -> None:
    program = "import os, sys; print('got', os.environ['MLFLOW_TRACKING_TOKEN']); sys.exit(1)"
    stage = Stage("leaky", (sys.executable, "-c", program), (), True)
    lines: list[str] = []

    with pytest.raises(StageFailedError) as caught:
        run_stage(
            stage,
            tmp_path,
            Commands(),
            use_dvc=False,
            timeout_seconds=60,
            log=lines.append,
            environment={},
        )

    assert lines == ["got ***"]
    assert "got ***" in str(caught.value)
    assert "4711" not in str(caught.value)
