"""What the Prefect UI shows of an experiment: metrics, verdicts, where the report is."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

MAX_NAME_LENGTH = 200
VERDICT_ORDER = ("faulty", "suspect", "undetermined", "healthy", "not_applicable")


def publish(workspace: Path, outcomes: dict[str, str]) -> None:
    """Create the artifacts of the running flow from the files its stages left.

    Args:
        workspace: Folder of the experiment.
        outcomes: What every stage did.
    """
    rows = read_summary(workspace)
    if rows:
        create_table_artifact(
            rows, key="test-metrics", description="Test metrics of all models, best first"
        )
    create_markdown_artifact(summary_text(workspace, outcomes), key="summary")
    publish_diagnosis(workspace)
    report = workspace / "artifacts" / "report" / "report.html"
    if report.is_file():
        create_link_artifact(report.as_uri(), key="report", link_text="The report, one HTML page")


def publish_diagnosis(workspace: Path) -> None:
    """Create the artifact that shows the verdict and the answer to every question.

    After a run that was stopped before training, the answers of the checks that stopped it.

    Args:
        workspace: Folder of the experiment.
    """
    documents = _findings(workspace)
    if not documents:
        return
    headlines = [f"{model}: {document['headline']}" for model, document in documents.items()]
    rows = [
        {
            "model": model,
            "no": finding["number"],
            "question": finding["title"],
            "verdict": finding["verdict"],
            "answer": finding["sentence"],
            "next step": next(iter(finding["advice"]), ""),
        }
        for model, document in documents.items()
        for finding in sorted(document["findings"], key=_by_verdict)
    ]
    create_table_artifact(rows, key="diagnosis", description=" | ".join(headlines))


def _by_verdict(finding: dict[str, Any]) -> int:
    return VERDICT_ORDER.index(finding["verdict"])


def _findings(workspace: Path) -> dict[str, dict[str, Any]]:
    """Findings by model: the diagnosis, or the checks where they let nothing be trained."""
    checks = workspace / "artifacts" / "checks"
    paths = {"diagnosis": workspace / "artifacts" / "diagnosis" / "findings.json"}
    if (checks / "findings").is_dir() and not (checks / "gate.txt").is_file():
        paths = {path.stem: path for path in sorted((checks / "findings").glob("*.json"))}
    found = {name: _read_json(path) for name, path in paths.items()}
    return {
        document.get("subject", name): document
        for name, document in found.items()
        if document.get("findings")
    }


def rename_run(name: str) -> None:
    """Name the running flow run after what happened."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, name=name[:MAX_NAME_LENGTH])


def run_name(workspace: Path, outcomes: dict[str, str]) -> str:
    """Name of a finished run: the best model, and what had to be done.

    Args:
        workspace: Folder of the experiment.
        outcomes: What every stage did.
    """
    counts = Counter(outcomes.values())
    done = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    rows = read_summary(workspace)
    if not rows:
        return f"{workspace.name}: {done}"
    best = rows[0]
    return f"{workspace.name}: best {best['model']} {float(best['ndcg_at_10']):.4f}, {done}"


def read_summary(workspace: Path) -> list[dict[str, Any]]:
    """Rows of the metric table, best first; empty where nothing was evaluated."""
    path = workspace / "artifacts" / "evaluation" / "summary.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float | str:
    try:
        return round(float(text), 5)
    except ValueError:
        return text


def summary_text(workspace: Path, outcomes: dict[str, str]) -> str:
    """Markdown: what ran, which differences are significant, what the diagnosis says.

    Args:
        workspace: Folder of the experiment.
        outcomes: What every stage did.
    """
    lines = ["## What ran", "", "| Stage | Outcome |", "| --- | --- |"]
    lines += [f"| {stage} | {outcome} |" for stage, outcome in outcomes.items()]
    sentences = _sentences(workspace)
    if sentences:
        lines += ["", "## Differences on test NDCG@10", ""]
        lines += [f"- {sentence}" for sentence in sentences]
    verdict = read_verdict(workspace)
    if verdict:
        lines += ["", "## Diagnosis", "", verdict]
    return "\n".join(lines)


def _sentences(workspace: Path) -> list[str]:
    comparison = _read_json(workspace / "artifacts" / "evaluation" / "comparison.json")
    tables = comparison.get("tables") or [{}]
    return [text for text in tables[0].get("sentences", ()) if " on ndcg_at_10 " in text]


def read_verdict(workspace: Path) -> str:
    """The diagnosis in one line; empty where none was made."""
    return str(
        _read_json(workspace / "artifacts" / "diagnosis" / "findings.json").get("headline", "")
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
