"""Which sources can change a result: those the runner reaches by its imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

START = "tasks.fault_benchmark.runner"
PACKAGES = ("tasks", "xlstm_model")


def code_hash(root: Path, start: str = START) -> str:
    """Return a digest of every source file that can change a result.

    Stages, commands and reports are not among them: nothing the runner imports, imports those.
    """
    digest = hashlib.sha256()
    for path in sorted(reachable(root, start)):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def reachable(root: Path, start: str) -> set[Path]:
    """Return the files of all modules that a module imports, directly or not, itself included.

    Imports inside functions count, and so do the packages a module lies in.
    """
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = _file_of(root, waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        waiting += _imported(path)
    return found


def _file_of(root: Path, module: str) -> Path | None:
    place = root.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] in PACKAGES:
                yield from (".".join(parts[: size + 1]) for size in range(len(parts)))
