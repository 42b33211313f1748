"""The text MLflow shows on top of an experiment's run: what came out, and where to click next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DESCRIPTION_TAG = "mlflow.note.content"
METRIC = "ndcg_at_10"


def describe_experiment(workspace: Path) -> str:
    """Return the description of the parent run in Markdown; empty where nothing was evaluated.

    Args:
        workspace: Folder of the experiment.
    """
    comparison = _read(workspace / "artifacts" / "evaluation" / "comparison.json")
    tables = comparison.get("tables") or []
    if not tables:
        return ""
    lines = ["| Model | Test NDCG@10 | 95 % interval |", "|---|---|---|"]
    for row in tables[0]["rows"]:
        value = row["metrics"][METRIC]
        lines.append(
            f"| {row['model']} | {value['mean']:.4f} | {value['low']:.4f} to {value['high']:.4f} |"
        )
    findings = _read(workspace / "artifacts" / "diagnosis" / "findings.json")
    if headline := str(findings.get("headline", "")):
        lines += ["", f"**Diagnosis.** {headline}"]
    lines += [
        "",
        "Artifacts: `report/report.html` (all of it on one page), `diagnosis/`, `evaluation/`. "
        "The models are the child runs: select them in the list of runs and press Compare.",
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
