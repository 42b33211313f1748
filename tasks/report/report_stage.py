"""The stage ``report``: reads every record of a workspace and writes one HTML page."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.data.storage import write_whole
from tasks.report.headline import headlines
from tasks.report.page import Provenance, render_page
from tasks.report.records import read_records, with_names
from tasks.settings import Settings

REPORT = Path("artifacts") / "report" / "report.html"


def run(settings: Settings, workspace: Path) -> dict[str, Any]:
    """Write ``artifacts/report/report.html`` and log it.

    Args:
        settings: All settings.
        workspace: Folder of the experiment.

    Raises:
        MissingRecordError: the evaluation is absent or a record is damaged.
        CatalogueError: the table of item names can't be used.
    """
    from tasks.serving import catalogue, explain_stage  # loads torch

    explain_stage.run(settings, workspace)
    records = read_records(workspace, settings.experiment.models, settings.experiment.seeds)
    if settings.recommend.item_table:
        names = catalogue.read_item_table(workspace / settings.recommend.item_table)
        records = with_names(records, names)
    settings_text = (workspace / "params.yaml").read_text(encoding="utf-8")
    page = render_page(records, settings, settings_text, _provenance(workspace))
    path = workspace / REPORT
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    tracking.log_report(settings, workspace)
    return {"report": str(REPORT), "headline": headlines(records.comparison["tables"][0])[0]}


def _provenance(workspace: Path) -> Provenance:
    command = ["git", "-C", str(workspace), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
        commit = found.stdout.strip() or "not under version control"
    except (OSError, subprocess.TimeoutExpired):
        commit = "git is not available"
    in_run = workspace.parent.name == "runs"
    run = f"assay run --params runs/{workspace.name}/params.yaml" if in_run else "make run"
    checkout = f"git checkout {commit}\n" if len(commit) == 40 else ""
    return Provenance(commit, f"{checkout}{run}")
