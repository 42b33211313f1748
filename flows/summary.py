"""What a run prints at its end: the table, what it means, and how to look closer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.headline import METRIC, display, headlines, short_verdict
from tasks.report.records import Records, read_records
from tasks.report.report_stage import REPORT
from tasks.settings import Settings
from tasks.tracking.views import LOCAL_SERVER, read_links

MAX_URL = 120
"""Longest address that is printed; longer ones are in the output of ``--json`` only."""


def summary_values(settings: Settings, workspace: Path) -> dict[str, Any]:
    """Return the results of a workspace as plain values for scripts."""
    records = _read(settings, workspace)
    first = records.comparison["tables"][0]
    return {
        "workspace": str(workspace),
        "report": str(workspace / REPORT),
        "mlflow": read_links(workspace),
        "headlines": headlines(first, _best_possible(records)),
        "diagnosis": records.findings.get("headline", ""),
        "next_test": records.findings.get("next_test", ""),
        "models": [
            {
                "model": row["model"],
                "num_seeds": row["num_seeds"],
                **{name: value["mean"] for name, value in row["metrics"].items()},
                "ndcg_at_10_low": row["metrics"][METRIC]["low"],
                "ndcg_at_10_high": row["metrics"][METRIC]["high"],
            }
            for row in first["rows"]
        ],
    }


def print_summary(settings: Settings, workspace: Path, as_json: bool) -> None:
    """Print the results of a workspace as a table, or as JSON."""
    if as_json:
        print(json.dumps(summary_values(settings, workspace), indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    records = _read(settings, workspace)
    for table in records.comparison["tables"]:
        console.print(_table(table))
    for line in headlines(records.comparison["tables"][0], _best_possible(records)):
        console.print(line, style="bold", markup=False, soft_wrap=True)
    diagnosis = records.findings.get("headline", "not run yet (assay diagnose)")
    console.print(f"Diagnosis: {diagnosis}", style="bold", markup=False, soft_wrap=True)
    next_test = records.findings.get("next_test")
    if next_test and next_test not in diagnosis:
        console.print(f"Cheapest next test: {next_test}", markup=False, soft_wrap=True)
    console.print()
    for what, how in next_steps(workspace):
        console.print(f"{what:<11}{how}", markup=False, soft_wrap=True)


def next_steps(workspace: Path) -> list[tuple[str, str]]:
    """Return what there is to look at and the command or file that shows it."""
    name = f" --name {workspace.name}" if workspace.parent.name == "runs" else ""
    links = [(url, title) for title, url in read_links(workspace).items() if len(url) <= MAX_URL]
    views = [f"  {url}  {title[:1].lower()}{title[1:]}" for url, title in links]
    return [
        ("Report", str(workspace / REPORT)),
        ("", f"assay report --open{name}"),
        ("MLflow UI", f"assay ui mlflow     then open {'' if views else LOCAL_SERVER}".rstrip()),
        *(("", view) for view in views),
        ("Prefect UI", "assay ui prefect    then open http://127.0.0.1:4200"),
    ]


def _table(table: dict[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    seen = "items the user has seen left out" if table["seen_filtered"] else "all items ranked"
    title = f"Test set, full ranking, {seen}"
    grid = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for head in ("Model", "NDCG@10", "95 % interval", "HR@10", "vs best"):
        text = head in ("Model", "vs best")
        grid.add_column(head, justify="left" if text else "right", no_wrap=True)
    for row in table["rows"]:
        metrics = row["metrics"]
        ndcg = metrics[METRIC]
        grid.add_row(
            display(row["model"]),
            f"{ndcg['mean']:.4f}",
            f"{ndcg['low']:.4f} to {ndcg['high']:.4f}",
            f"{metrics['hit_rate_at_10']['mean']:.4f}",
            short_verdict(table, row["model"]),
        )
    return grid


def _read(settings: Settings, workspace: Path) -> Records:
    return read_records(workspace, settings.experiment.models, settings.experiment.seeds)


def _best_possible(records: Records) -> float | None:
    values = records.comparison.get("best_possible") or {}
    return values.get("test/ndcg_at_10", values.get("ndcg_at_10"))
