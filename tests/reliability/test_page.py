"""The page names tests that exist, and shows what the harnesses found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability.page import PAGE, RESULTS, render
from benchmarks.reliability.survived import SURVIVED


@pytest.mark.parametrize(("fault", "file", "test"), SURVIVED, ids=[row[2] for row in SURVIVED])
def test_every_named_test_exists(fault: str, file: str, test: str, repository: Path) -> None:
    assert fault
    assert f"def {test}(" in (repository / file).read_text(encoding="utf-8")


def test_the_page_is_what_the_command_writes(repository: Path) -> None:
    written = (repository / PAGE).read_text(encoding="utf-8")
    assert written == render(repository / RESULTS)


def test_differences_are_shown(tmp_path: Path) -> None:
    row = {"stage": "fetch", "seconds": 1.0, "kills": 7, "by_mode": {"SIGKILL": 7}}
    rows = [{**row, "truncated": {}, "failures": ["x", "y"]}]
    (tmp_path / "kills.json").write_text(json.dumps({"stages": rows}))

    page = render(tmp_path)

    assert "| fetch | 1.00 s | 7 | 7 | 0 | 0 | 0 | 2 |" in page
    assert "7 kills, 2 with a difference." in page
    assert "Not run yet." in page
