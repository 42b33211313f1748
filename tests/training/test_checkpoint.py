"""Checkpoints are whole or absent, two are kept, damage is noticed and stepped over."""

from __future__ import annotations

import json
import os

import pytest
import torch

from tasks.training.checkpoint import CheckpointError, CheckpointFolder


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints", identity="run a")


def tensors(step):
    shared = torch.full((3,), float(step))
    return {
        "weights": torch.full((2, 3), step + 0.1, dtype=torch.float64),
        "same": shared,
        "shared": shared,
        "view": torch.arange(6).view(2, 3).T,
        "scalar": torch.tensor(step),
    }


def save(folder, *steps):
    for step in steps:
        folder.save(step, tensors(step), {"step": step, "nan": float("nan"), "low": -float("inf")})


def test_round_trip_is_exact(folder):
    save(folder, 7)
    checkpoint, rejected = folder.load_latest()
    assert (checkpoint.step, rejected) == (7, [])
    assert checkpoint.state["low"] == -float("inf")
    assert checkpoint.state["nan"] != checkpoint.state["nan"]
    for name, tensor in tensors(7).items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.tensors[name], tensor)


def test_an_empty_or_missing_folder_has_none(folder):
    assert folder.load_latest() == (None, [])
    folder.clear()
    assert not folder.folder.exists()


def test_the_newest_two_are_kept(folder):
    save(folder, 5, 50, 500)
    assert sorted(p.name for p in folder.folder.iterdir()) == [
        f"step_{step:012d}.{kind}" for step in (50, 500) for kind in ("json", "safetensors")
    ]
    assert folder.load_latest()[0].step == 500


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, remove])
def test_damage_to_the_newest_falls_back_to_the_one_before(folder, damage, kind):
    save(folder, 1, 2)
    damaged = folder.folder / f"step_{2:012d}.{kind}"
    damage(damaged)
    checkpoint, rejected = folder.load_latest()
    assert checkpoint.step == 1
    assert torch.equal(checkpoint.tensors["weights"], tensors(1)["weights"])
    if (damage, kind) != (remove, "json"):  # without its JSON it was never there
        assert len(rejected) == 1
        assert "000000000002" in rejected[0]
    save(folder, 2)
    assert folder.load_latest()[0].step == 2


def test_a_clock_that_is_set_back_changes_nothing(folder):
    for step, day in ((1, 20_000), (2, 100), (3, 10)):
        save(folder, step)
        for path in folder.folder.glob(f"step_{step:012d}.*"):
            os.utime(path, (day * 86_400, day * 86_400))
    assert folder.load_latest()[0].step == 3
    assert len(list(folder.folder.iterdir())) == 4


def test_all_damaged_means_none_and_says_why(folder):
    save(folder, 1, 2)
    for path in folder.folder.glob("*.json"):
        truncate(path)
    checkpoint, rejected = folder.load_latest()
    assert checkpoint is None
    assert len(rejected) == 2
    assert all("damaged" in reason for reason in rejected)


@pytest.mark.parametrize("content", ["[]", "null", '{"body": 3}', '{"body": "x", "sha256": "y"}'])
def test_json_of_something_else_is_damage(folder, content):
    save(folder, 1)
    manifest = next(folder.folder.glob("*.json"))
    manifest.write_text(content)
    with pytest.raises(CheckpointError, match=manifest.name):
        folder.read(manifest)


def test_a_checkpoint_of_another_run_is_refused(folder):
    save(folder, 3)
    other = CheckpointFolder(folder.folder, identity="run b")
    checkpoint, rejected = other.load_latest()
    assert checkpoint is None
    assert "identity 'run a'; expected 'run b'" in rejected[0]


def test_failures_are_kept_aside_and_not_resumed_from(folder):
    save(folder, 3)
    path = folder.save_failure(9, tensors(9), {"why": "NaN"})
    assert folder.read(path).state == {"why": "NaN"}
    assert folder.load_latest()[0].step == 3


def test_a_kill_while_writing_leaves_the_previous_one(folder, monkeypatch):
    save(folder, 1)
    real = os.replace
    for survivors in (0, 1):  # killed before the first rename, then between the two
        calls = iter(range(10))

        def killed(source, target, limit=survivors, calls=calls):
            if next(calls) >= limit:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(folder, 2)
        monkeypatch.setattr(os, "replace", real)
        assert folder.load_latest()[0].step == 1
    save(folder, 2)
    assert folder.load_latest()[0].step == 2


def test_clear_removes_checkpoints_and_spares_other_files(folder):
    save(folder, 1, 2)
    (folder.folder / "epochs.jsonl").write_text("{}")
    folder.clear()
    assert [p.name for p in folder.folder.iterdir()] == ["epochs.jsonl"]


def test_files_hold_no_pickle(folder):
    save(folder, 1)
    manifest, blob = sorted(folder.folder.iterdir())
    assert set(json.loads(manifest.read_text())) == {"sha256", "body"}
    header_size = int.from_bytes(blob.read_bytes()[:8], "little")
    assert "weights" in json.loads(blob.read_bytes()[8 : 8 + header_size])
