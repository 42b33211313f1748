"""``assay clean``: keeps the newest runs and removes what older ones left, everywhere."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from flows.launch import REPORT
from flows.workspace import find_project
from tasks.lock import WorkspaceBusyError, experiment_lock
from tasks.tracking import retention
from tasks.tracking.connection import StoreAwayError

logger = logging.getLogger("assay.flows")


@dataclass
class Plan:
    """What would go."""

    folders: list[Path] = field(default_factory=list)
    """Folders of runs."""
    experiments: list[retention.OldExperiment] = field(default_factory=list)
    """MLflow runs."""
    spool: list[Path] = field(default_factory=list)
    """Delivered journals and their copies."""
    kept: dict[str, str] = field(default_factory=dict)
    """Folder name -> why it stays."""
    problem: str = ""
    """Why MLflow's runs were not looked at."""

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "runs": [folder.name for folder in self.folders],
            "mlflow_runs": [each.name for each in self.experiments],
            "spool_files": len(self.spool),
            "bytes": size_of([*self.folders, *self.spool]),
            "kept": self.kept,
            "problem": self.problem,
        }


def clean(start: Path, keep: int, is_agreed: bool, as_json: bool) -> None:
    """Show what the newest ``keep`` runs don't need; remove it when agreed.

    Args:
        start: Where the user stands.
        keep: Runs that stay, of the folders below ``runs/`` and of each MLflow experiment.
        is_agreed: Remove; else only say what would be.
        as_json: Print JSON.

    Raises:
        SettingsError: not inside a project.
    """
    project = find_project(start)
    with ExitStack() as held:
        plan = make_plan(project, keep, held)
        if is_agreed:
            carry_out(project, plan)
    if as_json:
        print(json.dumps({**plan.as_dict(), "removed": is_agreed}, indent=2))
        return
    shown = plan.as_dict()
    verb = "Removed" if is_agreed else "Would remove"
    print(f"{verb} {len(plan.folders)} run folders: {', '.join(shown['runs']) or 'none'}")
    print(f"{verb} {len(plan.experiments)} MLflow runs with their children")
    print(f"{verb} {len(plan.spool)} delivered records; {shown['bytes'] / 1e6:.1f} MB in all")
    for name, reason in plan.kept.items():
        print(f"Kept {name}: {reason}")
    if plan.problem:
        print(f"MLflow's runs were left alone: {plan.problem}")
    if not is_agreed:
        print("Nothing was removed; add --yes to do it.")


def make_plan(project: Path, keep: int, held: ExitStack) -> Plan:
    """Decide what goes; the folders that go stay locked until ``held`` is closed.

    Args:
        project: The clone.
        keep: Newest runs that stay.
        held: Takes the locks.
    """
    plan = Plan()
    folders = sorted(_runs(project), key=_age, reverse=True)
    good = next((folder for folder in folders if (folder / REPORT).is_file()), None)
    for place, folder in enumerate(folders):
        if place < keep:
            plan.kept[folder.name] = "among the newest"
        elif folder == good:
            plan.kept[folder.name] = "the newest that finished"
        else:
            try:
                held.enter_context(experiment_lock(folder, "assay clean"))
                plan.folders.append(folder)
            except WorkspaceBusyError:
                plan.kept[folder.name] = "an experiment runs in it"
    try:
        plan.experiments = retention.old_experiments(project, keep)
    except StoreAwayError as error:
        plan.problem = str(error)
    staying = [project, *(project / "runs" / name for name in plan.kept)]
    plan.spool = [path for place in staying for path in retention.old_spool_files(place)]
    return plan


def carry_out(project: Path, plan: Plan) -> None:
    """Remove what a plan names, then what DVC's cache holds for nobody."""
    for path in plan.spool:
        _remove(path)
    for folder in plan.folders:
        _remove(folder)
    retention.remove_experiments(project, plan.experiments)
    if plan.folders and (project / ".dvc").is_dir():
        _collect_garbage(project, [project / "runs" / name for name in plan.kept])


def _runs(project: Path) -> Iterator[Path]:
    for folder in (project / "runs").glob("*"):
        if (folder / "params.yaml").is_file() and not folder.is_symlink():
            yield folder


def _age(folder: Path) -> float:
    """When a run last did something: its report, or its settings where there is none."""
    paths = (folder / REPORT, folder / "dvc.lock", folder / "params.yaml")
    return max(path.stat().st_mtime for path in paths if path.is_file())


def _collect_garbage(project: Path, kept: list[Path]) -> None:
    """Keep in DVC's cache what any commit, the project or a kept run needs."""
    command = [sys.executable, "-m", "dvc", "gc", "--workspace", "--force", "--quiet"]
    if (project / ".git").exists():
        command.append("--all-commits")
    if kept:
        command += ["--projects", *map(str, kept)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        logger.warning("DVC's cache was not cleaned: %s", done.stderr.strip()[-500:])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Links to the project's code are removed as links.
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(paths: list[Path]) -> int:
    """Bytes of files and of all files below folders, links not followed."""
    total = 0
    for path in paths:
        files = [path] if path.is_file() else [p for p in path.rglob("*") if not p.is_symlink()]
        total += sum(file.lstat().st_size for file in files if file.is_file())
    return total
