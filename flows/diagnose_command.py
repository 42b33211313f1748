"""``assay diagnose``: answer the questions about a run, or about a model of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.workspace import find_project, run_folder
from tasks.lock import refuse_if_busy, stage_lock
from tasks.settings import DiagnoseSettings, Settings, SettingsError, load_settings

MARKS = {
    "healthy": ("green", "ok"),
    "suspect": ("yellow", "suspect"),
    "faulty": ("red", "FAULTY"),
    "undetermined": ("dim", "undetermined"),
    "not_applicable": ("dim", "not applicable"),
}

AS_IT_IS: dict[str, Any] = {"markup": False, "soft_wrap": True}
"""How sentences are printed: commands in them can be copied whole."""


def diagnose_run(
    start: Path,
    name: str,
    deep: bool,
    fail_on: str,
    as_json: bool,
    only: Sequence[str] = (),
) -> int:
    """Diagnose the workspace's model, print the answers and return the exit code.

    The answers to all questions replace those of the run; answers to some are only printed.

    Args:
        start: Where the user stands.
        name: Run below ``runs/``; the project itself when empty.
        deep: Also run the interventions that train models.
        fail_on: never, suspect or faulty; the verdict that makes the exit code 1.
        as_json: Print the findings as JSON.
        only: Ids or numbers of the questions to ask; all of them by default.

    Raises:
        SettingsError: there is no such run, or nothing is prepared yet.
        ValueError: there is no such question.
        WorkspaceBusyError: an experiment, or another diagnosis, runs in the folder.
    """
    project = find_project(start)
    folder = run_folder(project, name)
    if not (folder / "data" / "prepared" / "manifest.json").is_file():
        raise SettingsError(
            f"{folder} holds no prepared data. Run the experiment first: assay run."
        )
    from tasks.diagnostics import diagnose_stage
    from tasks.diagnostics.engine import exit_code
    from tasks.diagnostics.questions import select_questions

    settings = _with_choices(load_settings(folder / "params.yaml"), deep, fail_on)
    if only:
        _, diagnosis = diagnose_stage.answer_questions(settings, folder, select_questions(only))
        _print(diagnosis.to_json(), as_json)
        return exit_code(diagnosis, settings.diagnose.fail_on)
    refuse_if_busy(folder)
    with stage_lock(folder, "diagnose", "diagnose"):
        result = diagnose_stage.run(settings, folder)
    path = folder / "artifacts" / "diagnosis" / diagnose_stage.FINDINGS_FILE
    findings = json.loads(path.read_text(encoding="utf-8"))
    _print(findings, as_json)
    return int(result["exit_code"])


def _with_choices(settings: Settings, deep: bool, fail_on: str) -> Settings:
    chosen = settings.diagnose.model_dump() | {"deep": deep or settings.diagnose.deep}
    if fail_on:
        chosen["fail_on"] = fail_on
    return settings.model_copy(update={"diagnose": DiagnoseSettings.model_validate(chosen)})


def diagnose_own(
    model: str,
    num_items: int,
    deep: bool,
    fail_on: str,
    as_json: bool,
    only: Sequence[str] = (),
) -> int:
    """Diagnose ``package.module:build``, a module or a function that builds one.

    Raises:
        ValueError: the name leads nowhere, or there is no such question.
    """
    from tasks.diagnostics.conclusion import with_options
    from tasks.diagnostics.diagnose import diagnose
    from tasks.diagnostics.engine import exit_code
    from tasks.diagnostics.own_program import load_builder

    # A module in the current folder is found, as with `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    diagnosis = diagnose(
        load_builder(model), num_items=num_items, mode="deep" if deep else "exact", only=only
    )
    diagnosis = with_options(diagnosis, f"--model {model}")
    _print(diagnosis.to_json(), as_json)
    return exit_code(diagnosis, fail_on or "never")


def _print(findings: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(findings, indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    grid = Table()
    for head in ("No", "Question", "Answer"):
        grid.add_column(head)
    for finding in findings["findings"]:
        style, word = MARKS[finding["verdict"]]
        grid.add_row(finding["number"], finding["title"], word, style=style)
    console.print(grid)
    for finding in findings["findings"]:
        if finding["verdict"] in ("faulty", "suspect"):
            console.print(f"{finding['number']} {finding['sentence']}", **AS_IT_IS)
            for line in finding["advice"]:
                console.print(f"   - {line}", **AS_IT_IS)
    for finding in findings["findings"]:
        if finding["verdict"] == "undetermined":
            settles = next(iter(finding["advice"]), "")
            console.print(f"{finding['number']} is open: {settles}", style="dim", **AS_IT_IS)
    console.print(findings["headline"], style="bold", **AS_IT_IS)
    next_test = findings.get("next_test")
    if next_test and next_test not in findings["headline"]:
        console.print(f"Cheapest next test: {next_test}", **AS_IT_IS)
