"""Trainings in two processes against one, started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.data import fetch_stage, prepare_stage
from tasks.settings import settings_from_dict, write_params
from tasks.training.batches import WindowBatches
from tasks.training.distributed import Group, join_group, shard, share_training

PARAMS = {
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 50, "num_items": 20, "min_length": 6, "max_length": 20},
    },
    "train": {
        "shared": {"max_epochs": 2, "max_seq_len": 8, "batch_size": 15, "device": "cpu"},
        "xlstm": {"embedding_dim": 8, "dropout": 0.0},
    },
    "tracking": {"enabled": False},
}


def make_workspace(folder):
    settings = settings_from_dict(PARAMS)
    folder.mkdir(exist_ok=True)
    write_params(settings, folder / "params.yaml")
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


def start(workspace, launcher):
    return subprocess.run(
        [sys.executable, *launcher, "-m", "tasks", "train", "--model", "xlstm", "--seed", "0"],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.long
def test_two_processes_train_what_one_does(tmp_path):
    found = []
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        workspace = make_workspace(tmp_path / name)
        done = start(workspace, launcher)
        assert done.returncode == 0, done.stderr
        folder = workspace / "artifacts" / "models" / "xlstm" / "seed_0"
        record = json.loads((folder / "record.json").read_text())
        epochs = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
        found.append((load_file(folder / "model.safetensors"), record, epochs))
    (weights, one, epochs), (others, two, same_epochs) = found
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    assert [epoch["train/loss"] for epoch in same_epochs] == pytest.approx(
        [epoch["train/loss"] for epoch in epochs], rel=1e-4
    )
    # Adam divides by the size of a gradient: next to nothing, the order of sums shows in it. So
    # single tensors that have hardly left zero may differ, and all together do not.
    apart = torch.cat([(others[name] - tensor).flatten() for name, tensor in weights.items()])
    whole = torch.cat([tensor.flatten() for tensor in weights.values()])
    assert apart.norm() <= 1e-2 * whole.norm()
    assert not list((tmp_path / "two" / ".assay" / "checkpoints").glob("*"))


def make_batch(batch_size):
    items = torch.arange(1, 25).numpy()
    batches = WindowBatches(
        items, torch.tensor([0, 5, 8, 16, 24]).numpy(), max_seq_len=4, batch_size=batch_size, seed=0
    )
    return batches.batch(0, 0)


@pytest.mark.parametrize("size", [2, 3])
def test_shards_are_the_batch_taken_apart(size):
    batch = make_batch(6)
    shards = [shard(batch, rank, size) for rank in range(size)]
    assert sum(part.num_targets for part in shards) == batch.num_targets
    targets = [part.targets.flatten()[part.positions] for part in shards]
    whole = batch.targets.flatten()[batch.positions]
    assert torch.cat(targets).sort().values.tolist() == whole.sort().values.tolist()
    assert len({part.seed for part in shards}) == size


def test_gradients_of_the_shards_add_up_to_those_of_the_batch(make_parts):
    parts = make_parts("xlstm", dropout=0.0)
    parts.model.double().train()
    batch = next(parts.batches.epoch(0))

    def gradients(part):
        hidden, _ = parts.model.encode(part.item_ids, mask=part.mask, times=part.times)
        loss = parts.objective(parts.model, hidden, part) * (part.num_targets / batch.num_targets)
        return torch.autograd.grad(loss, list(parts.model.parameters()))

    whole = gradients(batch)
    halves = [gradients(shard(batch, rank, 2)) for rank in range(2)]
    for expected, one, other in zip(whole, *halves, strict=True):
        torch.testing.assert_close(one + other, expected, rtol=1e-9, atol=1e-12)


def test_more_processes_than_windows_leave_some_without():
    batch = make_batch(1)
    assert shard(batch, 0, 3).num_targets == batch.num_targets
    assert shard(batch, 1, 3) is None


def test_one_process_alone_trains_as_ever(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    parts = object()
    with join_group() as group:
        assert group == Group(0, 1)
        assert share_training(parts, group) is parts


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="process 2 has no GPU"), join_group():
        pass
