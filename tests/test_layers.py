"""The rooms import each other only in the allowed directions."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

# Room -> rooms of ours it may import besides itself. Stage files (`*_stage.py`) join rooms.
ALLOWED: dict[str, set[str]] = {
    "xlstm_model": set(),
    "tasks/settings": set(),
    "tasks/data": {"tasks/settings"},
    "tasks/evaluation": {"tasks/settings"},
    "tasks/baselines": {"xlstm_model"},
    "tasks/training": {"tasks/data", "tasks/baselines", "tasks/evaluation", "xlstm_model"},
    "tasks/diagnostics": {
        "tasks/data",
        "tasks/baselines",
        "tasks/training",
        "tasks/evaluation",
        "tasks/settings",
        "xlstm_model",
    },
    "tasks/faults": {
        "tasks/data",
        "tasks/baselines",
        "tasks/training",
        "tasks/evaluation",
        "tasks/settings",
        "xlstm_model",
        # What a fault changes is the subject, the one type both sides share.
        "tasks/diagnostics/subject",
    },
    "tasks/fault_benchmark": {"tasks"},
    "tasks/serving": {"tasks/data", "tasks/training", "tasks/evaluation", "xlstm_model"},
    "tasks/tuning": {"tasks/data", "tasks/training", "tasks/evaluation", "xlstm_model"},
    "tasks/report": {"tasks/settings"},
    "flows": {"tasks"},
}
FORBIDDEN_EVERYWHERE = {
    "tasks/diagnostics": "tasks/faults",
}
OURS = {"flows", "tasks", "xlstm_model", "tests", "benchmarks"}
PREFECT_MAY = ("flows/", "tasks/steps.py")
MLFLOW_MAY = ("tasks/tracking",)


def _sources(repository: Path) -> list[Path]:
    return [
        path
        for room in ("xlstm_model", "tasks", "flows")
        for path in sorted((repository / room).rglob("*.py"))
    ]


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _room(path: str) -> str | None:
    rooms = [room for room in ALLOWED if path == room or path.startswith(f"{room}/")]
    return max(rooms, key=len, default=None)


def breaches(file: str, imported: set[str]) -> list[str]:
    """Return what ``file`` may not import, given the dotted names it imports."""
    room = _room(file)
    found = []
    joins_rooms = file.endswith("_stage.py") or file.endswith("/stage.py")
    for name in imported:
        target = name.replace(".", "/")
        if name.split(".")[0] not in OURS or room is None:
            continue
        if FORBIDDEN_EVERYWHERE.get(room) and target.startswith(FORBIDDEN_EVERYWHERE[room]):
            found.append(name)
            continue
        allowed = {room, *ALLOWED[room]} | ({"tasks", "xlstm_model"} if joins_rooms else set())
        inside = any(target == one or target.startswith(f"{one}/") for one in allowed)
        if not inside and target not in ("tasks", "flows"):
            found.append(name)
    return found


def test_no_room_imports_what_it_may_not(repository: Path) -> None:
    problems = [
        f"{path.relative_to(repository)} imports {name}"
        for path in _sources(repository)
        for name in breaches(str(path.relative_to(repository)), _imports(path))
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("tasks/data/splits.py", "tasks.training.loop"),
        ("tasks/diagnostics/engine.py", "tasks.faults.fault"),
        ("tasks/diagnostics/diagnose_stage.py", "tasks.faults.fault"),
        ("xlstm_model/stack.py", "tasks.settings"),
        ("tasks/report/page.py", "flows.cli"),
    ],
)
def test_a_breach_is_noticed(file: str, imported: str) -> None:
    assert breaches(file, {imported}) == [imported]


def test_only_flows_and_steps_import_prefect(repository: Path) -> None:
    users = _users(repository, "prefect")
    assert users, "no file imports prefect: the check looks at nothing"
    assert [file for file in users if not file.startswith(PREFECT_MAY)] == []


def test_only_tracking_imports_mlflow(repository: Path) -> None:
    users = _users(repository, "mlflow")
    assert users, "no file imports mlflow: the check looks at nothing"
    assert [file for file in users if not file.startswith(MLFLOW_MAY)] == []


def _users(repository: Path, library: str) -> list[str]:
    return [
        str(path.relative_to(repository))
        for path in _sources(repository)
        if any(name.split(".")[0] == library for name in _imports(path))
    ]


def test_the_model_needs_torch_and_safetensors_only(repository: Path) -> None:
    outside = {
        name.split(".")[0]
        for path in sorted((repository / "xlstm_model").rglob("*.py"))
        for name in _imports(path)
    } - set(sys.stdlib_module_names)
    assert outside <= {"torch", "safetensors", "triton", "xlstm_model"}
