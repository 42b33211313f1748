"""Damaged files are noticed by their checksums, named, and mended by the stage that is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import _guarded, app
from tasks.__main__ import main
from tests.reliability.conftest import STAGES, outputs


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def raise_a_count(path: Path) -> None:
    """Valid JSON that says something else."""
    manifest = json.loads(path.read_text())
    manifest["counts"]["items"] += 1
    path.write_text(json.dumps(manifest))


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{]")


@pytest.mark.parametrize("command", ["diagnose", "recommend"])
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("artifacts/models/gru/seed_0/model.safetensors", flip),
        ("artifacts/models/gru/seed_0/model.json", flip),
        ("artifacts/models/gru/seed_0/record.json", garble),
        ("artifacts/models/gru/seed_0/epochs.jsonl", garble),
        ("artifacts/models/gru/seed_0/steps.jsonl", garble),
        ("artifacts/evaluation/metrics.json", garble),
        ("artifacts/evaluation/per_user.parquet", garble),
        ("data/prepared/items.csv", garble),
        ("data/prepared/users.csv", garble),
        ("data/prepared/train.items.npy", flip),
        ("data/raw/synthetic.csv", flip),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).replace("/", "."),
)
def test_damage_is_named_by_what_reads_a_finished_run(
    file: str,
    damage: Callable[[Path], None],
    command: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reads_it = command == "diagnose" or Path(file).name in (
        *("model.safetensors", "model.json", "record.json", "items.csv"),
    )
    damage(workspace / file)
    words = {
        "diagnose": ["diagnose", "--only", "G14"],
        "recommend": ["recommend", "--history", "i0001", "--model", "gru"],
    }[command]

    (workspace / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(_guarded(lambda: app(words)))

    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if reads_it:
        assert ended.value.code == 2
        assert Path(file).name in said.err
        assert "again" in said.err or "Run the " in said.err
    else:
        assert ended.value.code in (0, None)


@pytest.mark.parametrize(
    ("file", "damage", "noticed_by", "mended_by"),
    [
        ("data/raw/synthetic.csv", flip, "prepare", "fetch"),
        ("data/raw/synthetic.csv", Path.unlink, "prepare", "fetch"),
        ("data/raw/source.json", cut, "prepare", "fetch"),
        ("data/prepared/manifest.json", cut, "train gru", "prepare"),
        ("data/prepared/manifest.json", raise_a_count, "train gru", "prepare"),
        ("data/prepared/manifest.json", raise_a_count, "evaluate", "prepare"),
        ("data/prepared/train.items.npy", flip, "train gru", "prepare"),
        ("data/prepared/train.items.npy", cut, "train popularity", "prepare"),
        ("data/prepared/test.targets.npy", flip, "evaluate", "prepare"),
        ("data/prepared/val.users.npy", Path.unlink, "evaluate", "prepare"),
        ("artifacts/models/gru/seed_0/model.safetensors", flip, "evaluate", "train gru"),
        ("artifacts/models/gru/seed_0/model.safetensors", cut, "evaluate", "train gru"),
        ("artifacts/models/gru/seed_0/model.json", flip, "evaluate", "train gru"),
        ("artifacts/models/popularity/seed_0/record.json", cut, "evaluate", "train popularity"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).replace("/", "."),
)
def test_damage_is_named_and_mended(
    file: str,
    damage: object,
    noticed_by: str,
    mended_by: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = outputs(workspace)
    damage(workspace / file)

    assert main(list(STAGES[noticed_by])) == 2

    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert Path(file).name in said
    assert mended_by.split()[0] in said.lower()
    assert main(list(STAGES[mended_by])) == 0
    assert main(list(STAGES[noticed_by])) == 0
    assert outputs(workspace) == before
