"""Runs the real commands in this process and watches what they say and where they write."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.settings import settings_from_dict, write_params

NEXT_STEP = re.compile(
    r"expected|did you mean|known here|should|must|again|missing|no such|git lfs|was a download"
    r"|\b(run|set|give|name|download|write|save|unpack|export|remove|change|close|choose|lower"
    r"|correct|raise|rename|check|use|start|wait)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    said: str
    """What it wrote to the terminal."""


Command = Callable[..., Ended]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project within a folder that nothing else may be written to."""
    folder = tmp_path / "outer" / "project"
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    write_params(settings_from_dict({"tracking": {"enabled": False}}), folder / "params.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ASSAY_DEBUG", raising=False)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def stage(place: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """``python -m tasks ARGUMENTS`` in the project."""
    from tasks.__main__ import main

    return lambda *arguments: _run(lambda: main(list(arguments)), place, capsys)


@pytest.fixture
def assay(place: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """``assay ARGUMENTS`` in the project."""
    from flows.cli import _guarded, app

    return lambda *arguments: _run(lambda: _guarded(lambda: app(list(arguments))), place, capsys)


def _run(command: Callable[[], int], place: Path, capsys: pytest.CaptureFixture[str]) -> Ended:
    before = _outside(place)
    capsys.readouterr()
    try:
        code = command()
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    assert _outside(place) == before, "something was written outside the project"
    return Ended(code, captured.out + captured.err)


def _outside(place: Path) -> list[Path]:
    outer = place.parent.parent
    return sorted(path for path in outer.rglob("*") if place not in (path, *path.parents))


def assert_refused(ended: Ended, *expected: str) -> None:
    """Exit code 2, a message that holds all texts and a next step, and no traceback."""
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    # Terminals wrap what the command line library says.
    said = " ".join(re.sub(r"[│╭╮╰╯─]+", " ", ended.said).split())
    for text in expected:
        assert " ".join(text.split()) in said
    assert NEXT_STEP.search(said), f"no next step in: {said}"
