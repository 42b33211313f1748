"""Logs what the diagnosis found: tags by which runs can be filtered, and a table of all answers.

Every model that was checked before training carries the verdict of that check, the model under
test that of the whole diagnosis, and the experiment the worst of them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tasks.settings import Settings
from tasks.tracking import experiment, state
from tasks.tracking.run import RunLog

TABLE_FILE = "questions.json"
TABLE_FOLDER = "diagnosis"
COLUMNS = ("number", "question", "verdict", "stage", "title", "sentence", "next_step")
RED = ("faulty", "suspect")
VERDICTS = (*RED, "healthy")
MAX_TAG_LENGTH = 500

Document = dict[str, Any]


def log_verdicts(settings: Settings, workspace: Path, parent: RunLog) -> None:
    """Tag the open parent run and its children with what was found about them.

    Args:
        settings: All settings.
        workspace: Folder of the experiment.
        parent: Journal of the open parent run.
    """
    _log_documents(settings, workspace, parent, read_documents(settings, workspace))


def _log_documents(
    settings: Settings, workspace: Path, parent: RunLog, documents: dict[str, Document]
) -> None:
    children = state.read(workspace).children
    for model, document in documents.items():
        for seed in settings.experiment.seeds:
            entry = children.get(state.child_name(model, seed))
            if entry is not None:
                _log_document(RunLog(workspace, entry), model, document)
    if documents:
        worst = min(documents, key=lambda model: _weight(settings, model, documents[model]))
        _log_document(parent, worst, documents[worst])


def _weight(settings: Settings, model: str, document: Document) -> tuple[int, bool]:
    """Worst verdict first; where several are as bad, the model under test speaks."""
    return VERDICTS.index(verdict_of(document)), model != settings.diagnose.model


def log_refusal(settings: Settings, workspace: Path) -> None:
    """Record an experiment that the checks before training stopped.

    Args:
        settings: All settings.
        workspace: Folder of the experiment.
    """
    if not settings.tracking.enabled:
        return
    parent = experiment.parent_log(settings, workspace)
    # What an earlier run left of its diagnosis says nothing about this one.
    _log_documents(settings, workspace, parent, read_checks(settings, workspace))
    parent.add_copy("artifacts", workspace / "artifacts" / "checks" / "findings", folder="checks")
    if not parent.entry.by_flow:
        experiment.end_experiment(workspace, "FAILED")
    else:
        experiment.deliver_unless_later(workspace)


def read_checks(settings: Settings, workspace: Path) -> dict[str, Document]:
    """Findings of the check before training, by model."""
    checks = workspace / "artifacts" / "checks" / "findings"
    return {
        model: document
        for model in settings.experiment.models
        if (document := _read(checks / f"{model}.json"))
    }


def read_documents(settings: Settings, workspace: Path) -> dict[str, Document]:
    """Findings by model: of the check before training, or of the diagnosis where there is one."""
    found = read_checks(settings, workspace)
    diagnosis = _read(workspace / "artifacts" / "diagnosis" / "findings.json")
    return {**found, settings.diagnose.model: diagnosis} if diagnosis else found


def verdict_of(document: Document) -> str:
    """The worst answer: faulty, suspect, or healthy where nothing was found.

    >>> verdict_of({"counts": {"faulty": 0, "suspect": 2, "healthy": 40}})
    'suspect'
    """
    return next((verdict for verdict in RED if document["counts"].get(verdict)), "healthy")


def verdict_tags(model: str, document: Document) -> dict[str, str]:
    """Tags of a run: the verdict, what it blames, and one tag per question that is red.

    Args:
        model: Model the findings are about.
        document: Content of a findings file.
    """
    counts = {name: count for name, count in document["counts"].items() if count}
    tags = {
        "diagnosis": verdict_of(document),
        "diagnosis.model": model,
        "diagnosis.mode": document["mode"],
        "diagnosis.headline": document["headline"][:MAX_TAG_LENGTH],
        "diagnosis.counts": ", ".join(f"{count} {name}" for name, count in counts.items()),
        "diagnosis.stage": document["stage"] or "none",
        "diagnosis.question": document["question"] or "none",
    }
    red = {f["number"]: f["verdict"] for f in document["findings"] if f["verdict"] in RED}
    return tags | {f"diagnosis.{number}": verdict for number, verdict in red.items()}


def table(document: Document) -> dict[str, Any]:
    """All answers in the form MLflow's interface shows as a table, the red ones first."""
    order = ("faulty", "suspect", "undetermined", "healthy", "not_applicable")
    findings = sorted(document["findings"], key=lambda each: order.index(each["verdict"]))
    rows = [{**each, "next_step": next(iter(each["advice"]), "")} for each in findings]
    return {"columns": list(COLUMNS), "data": [[row[name] for name in COLUMNS] for row in rows]}


def _log_document(log: RunLog, model: str, document: Document) -> None:
    # The tag by which MLflow's interface knows which artifacts are tables.
    tables = [{"path": f"{TABLE_FOLDER}/{TABLE_FILE}", "type": "table"}]
    log.add_tags(verdict_tags(model, document) | {"mlflow.loggedArtifacts": json.dumps(tables)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TABLE_FILE
        path.write_text(json.dumps(table(document), ensure_ascii=False), encoding="utf-8")
        log.add_copy("artifacts", path, folder=TABLE_FOLDER)


def _read(path: Path) -> Document:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) and "counts" in document else {}
