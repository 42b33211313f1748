"""Workspaces: the folder a run reads its settings from and leaves its results in.

The project folder itself is the workspace of the plain run. A run with overrides gets
``runs/NAME/``: the merged settings beside its results, links to the code, and a DVC repository of
its own that shares the project's cache, so stages whose inputs are the same are not run again.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.data.sources import FILE, SOURCES
from tasks.lock import idle_workspace
from tasks.settings import (
    Settings,
    SettingsError,
    apply_overrides,
    origin_of,
    read_params,
    settings_from_dict,
    write_params,
)

CODE_FOLDERS = ("tasks", "xlstm_model", "flows")
MAX_NAME_LENGTH = 80


@dataclass(frozen=True)
class Workspace:
    """A folder with checked settings."""

    folder: Path
    settings: Settings
    project: Path

    @property
    def is_project(self) -> bool:
        """True when the run happens in the project folder itself."""
        return self.folder == self.project


def find_project(start: Path) -> Path:
    """Return the nearest folder at or above ``start`` that holds ``dvc.yaml`` and ``params.yaml``.

    Raises:
        SettingsError: there is none.
    """
    for folder in (start, *start.parents):
        is_run = folder.parent.name == "runs"
        if not is_run and (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder.resolve()
    raise SettingsError(
        f"{start} is not inside an Assay project: no folder above it holds dvc.yaml and "
        "params.yaml. Change into your clone first."
    )


def run_folder(project: Path, name: str) -> Path:
    """Folder of the run called ``name``, below ``runs/`` and nowhere else; the project without one.

    Raises:
        SettingsError: the name can't be a folder name.
    """
    return project / "runs" / _checked(name) if name else project


def open_workspace(
    start: Path, *, params: Path | None = None, overrides: Iterable[str] = (), name: str = ""
) -> Workspace:
    """Return the workspace for these settings, creating ``runs/NAME/`` where it is needed.

    Args:
        start: Where the user stands.
        params: A settings file to use instead of the project's ``params.yaml``.
        overrides: ``section.key=value`` texts.
        name: Name of the run; by default made from what differs.

    Raises:
        SettingsError: settings, name or place can't be used.
        WorkspaceBusyError: an experiment runs in that folder.
    """
    project = find_project(start)
    overrides = list(overrides)
    source = params if params is not None else project / "params.yaml"
    values = apply_overrides(read_params(source), overrides)
    settings = settings_from_dict(values, origin_of(source, overrides))
    if params is None and not overrides and not name:
        return Workspace(project, settings, project)
    settings = _absolute_data_path(settings, start)
    folder = run_folder(project, name or _name(settings, params, overrides))
    with idle_workspace(folder):
        _create(folder, settings, project)
    return Workspace(folder, settings, project)


def hash_settings(settings: Settings) -> str:
    """SHA-256 of all settings, in hexadecimal."""
    return hashlib.sha256(json.dumps(settings.model_dump(mode="json")).encode()).hexdigest()


def _absolute_data_path(settings: Settings, start: Path) -> Settings:
    if settings.data.source != "file":
        return settings
    path = (start / settings.data.path).resolve()
    if not path.is_file():
        names = [source.name for source in SOURCES if source is not FILE]
        close = difflib.get_close_matches(settings.data.path, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise SettingsError(
            f"data.path is {settings.data.path!r}; no such file ({path}), and no source of that "
            f"name; sources are {', '.join(names)}.{hint}"
        )
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingsError(
            f"data.path is {settings.data.path!r}; {path} can't be read ({error.strerror}). Check "
            "its permissions, or give another file."
        ) from error
    data = settings.data.model_copy(update={"path": str(path)})
    return settings.model_copy(update={"data": data})


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.=-]*", name) or len(name) > MAX_NAME_LENGTH:
        raise SettingsError(
            f"run name {name!r:.200} can't be a folder name; expected letters, digits, '.', '_', "
            f"'=' and '-', at most {MAX_NAME_LENGTH}."
        )
    return name


def _name(settings: Settings, params: Path | None, overrides: list[str]) -> str:
    digest = hash_settings(settings)[:8]
    parts = [params.stem] if params is not None else []
    parts += [override.rpartition(".")[2] for override in overrides]
    text = re.sub(r"[^\w.=-]+", "_", "-".join(parts)).strip("._-=") or "run"
    return f"{text[: MAX_NAME_LENGTH - 9]}-{digest}"


def _create(folder: Path, settings: Settings, project: Path) -> None:
    from dvc.repo import Repo
    from ruamel.yaml import YAML

    folder.mkdir(parents=True, exist_ok=True)
    write_params(settings, folder / "params.yaml")
    for code in CODE_FOLDERS:
        link = folder / code
        if not link.is_symlink():
            link.symlink_to(project / code, target_is_directory=True)
    shutil.copyfile(project / ".dvcignore", folder / ".dvcignore")
    yaml = YAML()
    dag = yaml.load((project / "dvc.yaml").read_text(encoding="utf-8"))
    if settings.data.source == "file":
        # The user's own log is an input like any other: when it changes, everything follows.
        dag["stages"]["fetch"]["deps"].append(settings.data.path)
    with (folder / "dvc.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(dag, file)
    if not (folder / ".dvc").is_dir():
        # DVC greets on the standard output, which belongs to --json.
        logging.getLogger("dvc.repo.init").setLevel(logging.WARNING)
        Repo.init(str(folder), no_scm=True).close()
    cache = project / ".dvc" / "cache"
    (folder / ".dvc" / "config").write_text(
        f"[core]\n    no_scm = True\n    analytics = false\n[cache]\n    dir = {cache}\n",
        encoding="utf-8",
    )
