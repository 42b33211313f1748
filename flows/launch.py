"""What the commands of ``assay`` do: run an experiment, show its report, serve the interfaces."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Iterable
from pathlib import Path

from flows.workspace import (
    Workspace,
    find_project,
    hash_settings,
    open_workspace,
    run_folder,
)
from tasks.data.sources import FILE, SOURCES
from tasks.settings import SettingsError

REPORT = Path("artifacts") / "report" / "report.html"


def shortcut_overrides(seeds: int, data: str, user: str, item: str, time: str) -> list[str]:
    """Turn the shortcuts of ``assay run`` into overrides.

    >>> shortcut_overrides(2, "synthetic", "", "", "")
    ['experiment.seeds=[0, 1]', 'data.source=synthetic', 'experiment.name=synthetic']

    Raises:
        SettingsError: a column is named without ``--data``.
    """
    overrides = [f"experiment.seeds={list(range(seeds))}"] if seeds else []
    if data in {source.name for source in SOURCES} - {FILE.name}:
        overrides += [f"data.source={data}", f"experiment.name={data}"]
    elif data:
        stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in Path(data).stem)
        overrides += ["data.source=file", f"data.path={_quoted(data)}"]
        overrides += [f"experiment.name={_quoted(stem.strip('-') or 'log')}"]
    columns = {"user_column": user, "item_column": item, "time_column": time}
    for name, value in columns.items():
        if value and not data:
            raise SettingsError(
                f"--{name.replace('_', '-')} is {value!r} without --data; expected --data FILE "
                "beside it."
            )
        if value:
            overrides.append(f"data.{name}={_quoted(value)}")
    return overrides


def _quoted(text: str) -> str:
    """Quote a text for YAML, so that no value is read as a number, a list or a comment."""
    return "'" + text.replace("'", "''") + "'"


def run_experiment(
    start: Path,
    *,
    params: Path | None,
    overrides: Iterable[str],
    name: str,
    use_dvc: bool,
    as_json: bool,
) -> None:
    """Run the experiment in its workspace and print the results."""
    workspace = open_workspace(start, params=params, overrides=overrides, name=name)
    _refetch_changed_log(workspace)
    if not as_json:
        print(f"Running experiment {workspace.settings.experiment.name} in {workspace.folder}")
    from flows import start as start_flow
    from flows.progress import shown_in_terminal
    from flows.summary import print_summary

    result = start_flow.run_experiment(
        workspace.folder,
        use_dvc=use_dvc,
        settings_hash=hash_settings(workspace.settings),
        display=lambda: shown_in_terminal(quiet=as_json),
    )
    if not as_json:
        done = sum(outcome == "ran" for outcome in result.outcomes.values())
        print(f"{done} of {len(result.outcomes)} stages had work to do ({result.seconds:.0f} s)\n")
    print_summary(workspace.settings, Path(result.workspace), as_json)


def _refetch_changed_log(workspace: Workspace) -> None:
    """Make the stage ``fetch`` run again when the user's log is not the one fetched."""
    if workspace.settings.data.source != "file" or not workspace.is_project:
        return
    from tasks.data.fetch import hash_file
    from tasks.report.records import read_json

    source = read_json(workspace.folder / "data" / "raw" / "source.json")
    path = workspace.folder / workspace.settings.data.path
    if source and path.is_file() and source.get("sha256") != hash_file(path):
        (workspace.folder / "data" / "raw" / "source.json").unlink()


def show_report(start: Path, name: str, open_it: bool, as_json: bool = False) -> None:
    """Print the path of a report, and open it where asked.

    Raises:
        SettingsError: there is no report yet.
    """
    project = find_project(start)
    folder = run_folder(project, name)
    path = folder / REPORT
    if not path.is_file():
        finished = sorted(str(p.parents[2].name) for p in project.glob(f"runs/*/{REPORT}"))
        known = f" Runs with a report: {', '.join(finished)}." if finished else ""
        raise SettingsError(f"{path} does not exist. Run the experiment first: assay run.{known}")
    print(json.dumps({"report": str(path), "url": path.as_uri()}) if as_json else path)
    if open_it:
        webbrowser.open(path.as_uri())


def newest_views(project: Path, port: int) -> list[str]:
    """Lines with the addresses of what the newest run of a project has to show.

    Args:
        project: Folder of the project.
        port: Port the interface listens on.
    """
    from tasks.tracking.views import LINKS_FILE, LOCAL_SERVER, read_links

    places = [*project.glob(f".assay/{LINKS_FILE}"), *project.glob(f"runs/*/.assay/{LINKS_FILE}")]
    newest = max(places, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return []
    links = read_links(newest.parents[1])
    return [
        f"  {title}: {url.replace(LOCAL_SERVER, f'http://127.0.0.1:{port}', 1)}"
        for title, url in links.items()
    ]


def serve_ui(start: Path, tool: str, port: int) -> None:
    """Replace this process by a user interface that listens on 127.0.0.1 only.

    Raises:
        SettingsError: no such tool.
    """
    scripts = Path(sys.executable).parent
    if tool == "mlflow":
        from tasks.tracking import store_uri

        project = find_project(start)
        uri = store_uri(project)
        command = [
            *(str(scripts / "mlflow"), "server", "--backend-store-uri", uri),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--default-artifact-root", (project / ".assay" / "mlartifacts").as_uri()),
        ]
    elif tool == "prefect":
        command = [
            *(str(scripts / "prefect"), "server", "start"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
    else:
        raise SettingsError(f"tool is {tool!r}; expected mlflow or prefect.")
    print(f"http://127.0.0.1:{port}  (Ctrl-C ends it)", flush=True)
    if tool == "mlflow":
        for line in newest_views(project, port):
            print(line, flush=True)
    os.execv(command[0], command)  # noqa: S606 - fixed program, no shell
