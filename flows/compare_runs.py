"""``assay compare``: runs side by side, in the terminal and on a page of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.workspace import find_project, run_folder
from tasks.data.storage import write_whole
from tasks.report.compare_page import Run, differences, render_comparison
from tasks.report.headline import METRIC, display
from tasks.report.records import Records, read_records
from tasks.settings import SettingsError, load_settings

PROJECT = "project"
PAGE = Path("runs") / "compare.html"


def compare(start: Path, names: list[str], as_json: bool) -> None:
    """Print two or more runs side by side, and write the same as a page: ``runs/compare.html``.

    Args:
        start: Where the user stands.
        names: Folder names below ``runs/``, or ``project``; all finished runs when empty.
        as_json: Print JSON instead of tables.

    Raises:
        SettingsError: a run does not exist or has no results.
    """
    project = find_project(start)
    names = names or finished_runs(project)
    if len(names) < 2:
        raise SettingsError(
            f"{len(names)} finished run(s) found in {project}; expected at least 2. Make another "
            "with `assay run --set ...`, or name them: assay compare project NAME."
        )
    runs = [_load(project, name) for name in dict.fromkeys(names)]
    names = [run.name for run in runs]
    differing = differences({run.name: run.settings for run in runs})
    values = {run.name: _metrics(run.records) for run in runs}
    verdicts = {run.name: run.records.findings.get("headline", "") for run in runs}
    page = project / PAGE
    page.parent.mkdir(exist_ok=True)
    write_whole(page, render_comparison(runs))
    if as_json:
        content = {"settings": differing, "metrics": values, "diagnosis": verdicts}
        print(json.dumps({**content, "page": str(page)}, indent=2))
        return
    _print(names, differing, values, verdicts)
    print(f"Page: {page}")


def finished_runs(project: Path) -> list[str]:
    """Return the runs of a project that have been evaluated, the project's own first."""
    folders = {PROJECT: project}
    folders |= {path.name: path for path in sorted((project / "runs").glob("*"))}
    done = Path("artifacts") / "evaluation" / "comparison.json"
    return [name for name, folder in folders.items() if (folder / done).is_file()]


def _load(project: Path, name: str) -> Run:
    folder = project if name == PROJECT else run_folder(project, name)
    if not (folder / "params.yaml").is_file():
        known = ", ".join(finished_runs(project)) or "none yet"
        raise SettingsError(f"run {name!r} does not exist; finished runs: {known}.")
    settings = load_settings(folder / "params.yaml")
    records = read_records(folder, settings.experiment.models, settings.experiment.seeds)
    return Run(name, settings, records)


def _metrics(records: Records) -> dict[str, dict[str, float]]:
    rows = records.comparison["tables"][0]["rows"]
    return {
        row["model"]: {key: row["metrics"][METRIC][key] for key in ("mean", "low", "high")}
        for row in rows
    }


def _print(
    names: list[str],
    differing: dict[str, dict[str, Any]],
    values: dict[str, dict[str, dict[str, float]]],
    verdicts: dict[str, str],
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    settings = Table(title="Settings that differ", title_justify="left")
    metrics = Table(title="Test NDCG@10 with 95 % interval", title_justify="left")
    for grid, head in ((settings, "Setting"), (metrics, "Model")):
        grid.add_column(head)
        for name in names:
            grid.add_column(name, justify="right", overflow="fold")
    for key, by_run in differing.items():
        settings.add_row(key, *(str(by_run[name]) for name in names))
    for model in dict.fromkeys(model for by_model in values.values() for model in by_model):
        cells = [values[name].get(model) for name in names]
        metrics.add_row(display(model), *(_cell(cell) for cell in cells))
    console.print(settings)
    console.print(metrics)
    for name in names:
        console.print(f"{name}: {verdicts[name] or 'not diagnosed'}", markup=False)


def _cell(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['mean']:.4f} ({value['low']:.4f}-{value['high']:.4f})"
