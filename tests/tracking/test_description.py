"""The description on top of an experiment's run tells its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking.description import DESCRIPTION_TAG, describe_experiment
from tests.tracking.conftest import parents, train, write_evaluation

ROW = {"model": "gru", "metrics": {"ndcg_at_10": {"mean": 0.25, "low": 0.2, "high": 0.31}}}


def _write(workspace: Path, name: str, content: dict[str, Any]) -> None:
    path = workspace / "artifacts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_metrics_with_intervals_and_the_diagnosis(tmp_path: Path) -> None:
    _write(tmp_path, "evaluation/comparison.json", {"tables": [{"rows": [ROW]}]})
    _write(tmp_path, "diagnosis/findings.json", {"headline": "Nothing found."})
    text = describe_experiment(tmp_path)
    assert "| gru | 0.2500 | 0.2000 to 0.3100 |" in text
    assert "**Diagnosis.** Nothing found." in text


def test_nothing_evaluated_nothing_said(tmp_path: Path) -> None:
    assert describe_experiment(tmp_path) == ""


def test_the_parent_run_carries_it(settings: Settings, workspace: Path, client: Any) -> None:
    train(settings, workspace, "gru")
    write_evaluation(workspace, {"gru": [1, 2, 3, 4]})
    _write(workspace, "evaluation/comparison.json", {"tables": [{"rows": [ROW]}]})
    tracking.log_report(settings, workspace)
    (parent,) = parents(client)
    assert "0.2000 to 0.3100" in parent.data.tags[DESCRIPTION_TAG]
    kind = client.get_experiment(parent.info.experiment_id).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
