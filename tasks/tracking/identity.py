"""What identifies a training: hash of its files, its entry in ``dvc.lock``, the git commit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

IDENTIFYING_FILES = ("model.json", "model.safetensors", "record.json")
GIT_SECONDS = 10.0


def model_folder(workspace: Path, model: str, seed: int) -> Path:
    """Where a training leaves its files."""
    return workspace / "artifacts" / "models" / model / f"seed_{seed}"


def fingerprint(folder: Path) -> str:
    """SHA-256 over the weights and the record of a training; empty when there is no model.

    The record holds times, so that two trainings with equal weights still differ.
    """
    if not (folder / IDENTIFYING_FILES[0]).is_file():
        return ""
    total = hashlib.sha256()
    for name in IDENTIFYING_FILES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def settings_hash(values: Mapping[str, Any]) -> str:
    """Hash of flat parameters.

    >>> settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def read_lock(workspace: Path) -> dict[str, Any]:
    """Stages of ``dvc.lock`` by name; empty where DVC has not run."""
    try:
        lock = YAML(typ="safe").load((workspace / "dvc.lock").read_text(encoding="utf-8"))
    except (FileNotFoundError, YAMLError):
        return {}
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return stages if isinstance(stages, dict) else {}


def stage_of(
    stages: Mapping[str, Any], workspace: Path, model: str, seed: int
) -> tuple[str, str] | None:
    """Name and hash of the ``dvc.lock`` entry that made a model, found by its outputs.

    Args:
        stages: What `read_lock` returned.
        workspace: Folder the entry's paths are relative to.
        model: Name of the model.
        seed: Seed of the training.
    """
    folder = PurePosixPath(model_folder(workspace, model, seed).relative_to(workspace).as_posix())
    for name, entry in stages.items():
        outs = [PurePosixPath(out["path"]) for out in entry.get("outs", ())]
        if any(out == folder or folder in out.parents for out in outs):
            text = json.dumps(entry, sort_keys=True, default=str)
            return name, hashlib.sha256(text.encode()).hexdigest()
    return None


@lru_cache(maxsize=8)
def git_commit(workspace: Path) -> str:
    """Commit checked out in ``workspace``; empty outside git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's git
            cwd=workspace,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
