"""`assay export` as people type it, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.test_recommend_command import assay  # noqa: F401
from tests.serving.conftest import project  # noqa: F401


def test_a_network_is_exported(assay, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "exported"
    code, out, _ = assay("export", "--model", "sasrec", "--output", str(folder))
    assert code == 0
    assert out.startswith(str(folder / "scores.pt2"))
    about = json.loads((folder / "export.json").read_text())
    assert (about["model"], list(about["inputs"])) == ("sasrec", ["item_ids", "lengths"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "transitions"], "transitions has no network to export"),
        (["--format", "pickle"], "--format is 'pickle'; expected torch-export"),
        (["--output", "params.yaml"], "expected a folder to write into"),
    ],
    ids=["count-model", "format", "file"],
)
def test_what_cannot_be_exported_is_refused(assay, arguments: list[str], message: str) -> None:  # noqa: F811
    code, _, err = assay("export", *arguments)
    assert code == 2
    assert message in err
