"""Outputs that came from DVC's cache: whether they are what was put there.

DVC hands out an object of its cache under the name of its hash and does not look whether a bad
disk changed it since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

FOLDER_MARK = ".dir"
"""Ends the name of an object that lists a folder."""


def damaged_objects(workspace: Path, stage: str) -> list[Path]:
    """Objects of DVC's cache behind the outputs of a stage whose content is not their name's.

    Args:
        workspace: Folder with ``dvc.lock``.
        stage: Name of a stage in it.
    """
    from dvc.repo import Repo
    from ruamel.yaml import YAML

    lock = YAML(typ="safe").load((workspace / "dvc.lock").read_text(encoding="utf-8"))
    outs = lock["stages"].get(stage, {}).get("outs", [])
    with Repo(str(workspace)) as repo:
        place = repo.cache.local
        names = [str(out["md5"]) for out in outs if "md5" in out]
        return [
            path
            for name in names
            for path, expected in _objects(Path(place.oid_to_path(name)), name, place)
            if path.is_file() and _md5(path) != expected
        ]


def _objects(path: Path, name: str, place: object) -> Iterator[tuple[Path, str]]:
    """An object with its hash, and those of the files in the folder it lists."""
    yield path, name.removesuffix(FOLDER_MARK)
    if not name.endswith(FOLDER_MARK):
        return
    try:
        entries = json.loads(path.read_bytes())
        for entry in entries:
            yield Path(place.oid_to_path(entry["md5"])), entry["md5"]  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, TypeError):
        # The listing itself is damaged, which its own hash tells.
        return


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # DVC names objects by it; nothing is kept secret with it.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
