"""Runs can be filtered by what the diagnosis found, and show every answer as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import tracking
from tasks.diagnostics import diagnose_stage
from tasks.diagnostics.engine import diagnose_findings
from tasks.diagnostics.finding import Limit, exact
from tasks.diagnostics.questions import QUESTIONS
from tests.tracking.conftest import children, parents, toy_settings, train, write_evaluation

ADVICE = "look at make_batches"


def findings(*values: float) -> Any:
    """A diagnosis whose n-th question measured the n-th value; above 0 is faulty."""
    made = [
        question.finding(
            None, exact("wrong rows", value, Limit(0.0, "rows"), question.stages[0], ADVICE)
        )
        for question, value in zip(QUESTIONS, values, strict=False)
    ]
    return diagnose_findings("toy", "exact", made)


def write_check(workspace: Path, model: str, diagnosis: Any) -> None:
    folder = workspace / "artifacts" / "checks" / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    diagnose_stage.write_document(folder / f"{model}.json", diagnosis)


def test_runs_are_found_by_verdict_and_by_question(workspace: Path, client: Any) -> None:
    models = ["popularity", "gru", "xlstm"]
    settings = toy_settings(experiment={"name": "toy", "models": models})
    for model in models:
        train(settings, workspace, model)
    write_check(workspace, "gru", findings(0.0, 0.0))
    write_check(workspace, "xlstm", findings(0.0, 0.0))
    diagnose_stage.write_findings(workspace, findings(0.0, 5.0, 0.0))
    write_evaluation(workspace, {model: [1, 2, 3, 4] for model in models})
    tracking.log_evaluation(settings, workspace)
    tracking.log_report(settings, workspace)

    (parent,) = parents(client)
    ids = [parent.info.experiment_id]
    faulty = client.search_runs(ids, "tags.diagnosis = 'faulty'")
    assert {run.info.run_name for run in faulty} == {parent.info.run_name, "xlstm seed 0"}
    number = QUESTIONS[1].number
    same = client.search_runs(ids, f"tags.`diagnosis.{number}` = 'faulty'")
    assert {run.info.run_id for run in same} == {run.info.run_id for run in faulty}
    named = children(client, parent)
    assert named["gru seed 0"].data.tags["diagnosis"] == "healthy"
    assert named["gru seed 0"].data.tags["diagnosis.mode"] == "exact"
    assert "diagnosis" not in named["popularity seed 0"].data.tags
    tags = named["xlstm seed 0"].data.tags
    assert tags["diagnosis.counts"] == "2 healthy, 1 faulty"
    assert tags["diagnosis.question"] == QUESTIONS[1].id

    shown = json.loads(tags["mlflow.loggedArtifacts"])[0]
    assert shown["type"] == "table"
    path = client.download_artifacts(named["xlstm seed 0"].info.run_id, shown["path"])
    table = pd.read_json(path, orient="split")
    assert list(table["verdict"]) == ["faulty", "healthy", "healthy"]
    assert table["next_step"][0] == ADVICE
    assert "wrong rows is 5" in table["sentence"][0].lower()


def test_a_run_stopped_before_training_is_recorded(workspace: Path, client: Any) -> None:
    chosen = toy_settings(experiment={"name": "toy", "models": ["gru", "xlstm"]})
    for model in ("gru", "xlstm"):
        write_check(workspace, model, findings(3.0))
    # A diagnosis of an earlier run, which this one does not speak of.
    diagnose_stage.write_findings(workspace, findings(0.0))

    tracking.log_refusal(chosen, workspace)

    (parent,) = parents(client)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["diagnosis"] == "faulty"
    assert parent.data.tags["diagnosis.model"] == "xlstm", "the model under test of two"
    listed = {entry.path for entry in client.list_artifacts(parent.info.run_id, "checks")}
    assert listed == {"checks/gru.json", "checks/xlstm.json"}


def test_with_tracking_off_nothing_is_written(workspace: Path) -> None:
    off = toy_settings(tracking={"enabled": False})
    write_check(workspace, "gru", findings(3.0))

    tracking.log_refusal(off, workspace)

    assert not (workspace / ".assay" / "spool").exists()
