"""The part of this project that a logged model needs, copied beside it.

A model loaded from MLflow then runs the code it was logged with, on a machine that has the pinned
packages and nothing of this project.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tasks

MODULES = (
    "__init__.py",
    "baselines",
    "serving/__init__.py",
    "serving/catalogue.py",
    "serving/history.py",
    "serving/recommend.py",
    "serving/service.py",
    "training/__init__.py",
    "training/models.py",
)
"""Files and folders of ``tasks``."""


def copy_code(place: Path) -> list[str]:
    """Copy what `tasks.serving.service` imports to ``place``; returns the folders for MLflow.

    Only Python files: compiled kernels belong to one kind of machine, and the model gives the
    same scores without them.
    """
    rooms = Path(tasks.__file__).parent
    for module in MODULES:
        source = rooms / module
        files = [source] if source.is_file() else sorted(source.rglob("*.py"))
        for file in files:
            _copy(file, place / "tasks" / file.relative_to(rooms))
    library = rooms.parent / "xlstm_model"
    for file in sorted(library.rglob("*.py")):
        _copy(file, place / "xlstm_model" / file.relative_to(library))
    return [str(place / "tasks"), str(place / "xlstm_model")]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
