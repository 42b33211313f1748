"""What DVC's cache gives back is looked at: a damaged object is named and made again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cached import damaged_objects
from tests.flows.conftest import calls

pytestmark = pytest.mark.xdist_group("prefect")


def cached(toy: Path, output: Path) -> Path:
    """The object of DVC's cache that holds an output."""
    name = hashlib.md5(output.read_bytes(), usedforsecurity=False).hexdigest()
    path = toy / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    assert path.is_file()
    return path


def damage(path: Path) -> None:
    os.chmod(path, 0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.chmod(path, 0o444)


def forget_outputs(toy: Path) -> None:
    """As in a fresh clone that shares the cache."""
    (toy / "raw.txt").unlink()
    (toy / "evaluation.txt").unlink()
    (toy / "dvc.lock").unlink()
    shutil.rmtree(toy / "out")


def test_a_damaged_object_is_named_and_made_again(
    run_experiment: Callable[..., Any], toy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_experiment()
    expected = {p: p.read_bytes() for p in (toy / "raw.txt", toy / "evaluation.txt")}
    damage(broken := cached(toy, toy / "raw.txt"))
    forget_outputs(toy)
    before = len(calls(toy))

    outcomes = run_experiment().outcomes

    assert outcomes["fetch"] == "ran"
    assert outcomes["train@gru-0"] == "from cache"
    assert calls(toy)[before] == "fetch"
    assert {path: path.read_bytes() for path in expected} == expected
    assert cached(toy, toy / "raw.txt") == broken
    assert f"fetch: 1 of its files in DVC's cache are damaged, the first is {broken}" in caplog.text

    forget_outputs(toy)
    assert run_experiment().outcomes["fetch"] == "from cache"


@pytest.mark.parametrize("what", ["file", "listing", "nothing"])
def test_folders_are_looked_into(what: str, toy: Path) -> None:
    (toy / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: mkdir made && echo 1 > made/a && echo 2 > made/b\n"
        "    outs: [made]\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=toy, check=True)
    cache = toy / ".dvc" / "cache" / "files" / "md5"
    (listing,) = cache.rglob("*.dir")
    names = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    path = cache / names["b"][:2] / names["b"][2:] if what == "file" else listing
    if what != "nothing":
        damage(path)

    assert damaged_objects(toy, "make") == ([path] if what != "nothing" else [])
    assert damaged_objects(toy, "another") == []
