"""The recorder writes what it says, measures right, and changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tasks.training.checkpoint import CheckpointError
from tasks.training.gates import has_gates, look_inside
from tasks.training.loop import train
from tasks.training.observer import Observer
from tasks.training.parameter_names import parameter_group
from tasks.training.record import (
    EPOCHS_FILE,
    STEPS_FILE,
    Recorder,
    grouped_norms,
)
from tasks.training.snapshot import copy_weights


def rows(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("gru", {"embedding", "block_0"}),
        ("sasrec", {"embedding", "block_0", "block_1", "head"}),
        ("xlstm", {"embedding", "block_0", "block_1", "head"}),
    ],
)
def test_steps_and_epochs_are_written(train_toy, tmp_path, name, groups):
    layers = {"num_layers": 2} if name == "sasrec" else {}
    _, record = train_toy(name, observers=[Recorder(tmp_path, every_steps=5)], **layers)
    steps = rows(tmp_path, STEPS_FILE)
    assert [row["step"] for row in steps] == [1, *range(5, record.num_steps + 1, 5)]
    for row in steps:
        found = {key.removeprefix("grad/") for key in row if key.startswith("grad/")}
        assert found == groups | {"norm", "clipped"}
        updates = {key: value for key, value in row.items() if key.startswith("update/")}
        assert set(updates) == {f"update/{group}" for group in groups - {"head"}}  # tied head
        by_group = torch.tensor([row[f"grad/{group}"] for group in groups])
        assert by_group.norm().item() == pytest.approx(row["grad/norm"], rel=1e-4)
        assert all(0 < value < 1 for value in updates.values())
    assert rows(tmp_path, EPOCHS_FILE) == list(record.history)


def test_norms_are_those_before_clipping(make_parts, plan, tmp_path):
    """Under a tiny limit the update shrinks, the recorded norms do not."""
    found = {}
    for limit in (1e-4, 1e4):
        folder = tmp_path / str(limit)
        sgd = replace(
            make_parts(),
            make_optimizer=lambda model, plan: torch.optim.SGD(model.parameters(), lr=0.1),
        )
        train(
            sgd,
            replace(plan, max_epochs=1, max_grad_norm=limit),
            observers=[Recorder(folder, every_steps=1000)],
        )
        found[limit] = rows(folder, STEPS_FILE)[0]
    tight, loose = found[1e-4], found[1e4]
    assert tight["grad/norm"] == pytest.approx(loose["grad/norm"], rel=1e-5)
    assert tight["grad/embedding"] == pytest.approx(loose["grad/embedding"], rel=1e-5)
    assert (tight["grad/clipped"], loose["grad/clipped"]) == (True, False)
    assert tight["update/embedding"] < 0.1 * loose["update/embedding"]


def test_update_ratio_by_hand(make_parts, plan, tmp_path):
    weights = []

    class Keep(Observer):
        def wants_step(self, step):
            return step == 1

        def on_gradients(self, model, step):
            weights.append(copy_weights(model))
            self.model = model

        def on_step(self, report):
            weights.append(copy_weights(self.model))

    train(
        make_parts(),
        replace(plan, max_epochs=1),
        observers=[Recorder(tmp_path, every_steps=1000), Keep()],
    )
    before, after = (w["item_embedding.weight"] for w in weights)
    expected = (after - before).norm() / before.norm()
    assert rows(tmp_path, STEPS_FILE)[0]["update/embedding"] == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["gru", "xlstm"])
def test_results_are_the_same_with_and_without(train_toy, tmp_path, name):
    outcomes = []
    gates = look_inside if name == "xlstm" else None
    for observers in ([], [Recorder(tmp_path, every_steps=1, look_inside=gates)]):
        parts, record = train_toy(name, observers=observers, dropout=0.3)
        losses = [row["train/loss"] for row in record.history]
        outcomes.append((losses, copy_weights(parts.model)))
    assert outcomes[0][0] == outcomes[1][0]
    for name, tensor in outcomes[0][1].items():
        assert torch.equal(tensor, outcomes[1][1][name])


def test_gates_are_measured_at_recorded_steps(train_toy, tmp_path):
    def measure(model, batch):
        return {"gate/block_0/f": model.training + 0.001 * len(batch.users)}

    train_toy(observers=[Recorder(tmp_path, every_steps=7, look_inside=measure)])
    steps = rows(tmp_path, STEPS_FILE)
    assert len(steps) > 2
    assert all(0 < row["gate/block_0/f"] <= 1.008 for row in steps)


def test_gates_of_an_xlstm(train_toy, make_parts, tmp_path):
    train_toy("xlstm", observers=[Recorder(tmp_path, 5, look_inside=look_inside)])
    gates = {"gate/block_0/i", "gate/block_0/f", "gate/block_1/i", "gate/block_1/f"}
    for row in rows(tmp_path, STEPS_FILE):
        found = {key: value for key, value in row.items() if key.startswith("gate/")}
        assert set(found) == gates | {"gate/block_1/o"}
        assert all(0 < value <= 1 for value in found.values())
        shares = {key: value for key, value in row.items() if key.startswith("saturated/")}
        assert set(shares) == {"saturated/block_1/z", "saturated/block_1/o"}
        assert all(0 <= value <= 1 for value in shares.values())
        for block in ("block_0", "block_1"):
            for state in ("c", "h"):
                assert all(row[f"state/{block}/{state}/{p}"] > 0 for p in ("first", "last"))
    assert [has_gates(make_parts(name).model) for name in ("xlstm", "gru")] == [True, False]


def test_looking_inside_leaves_the_model_alone(make_parts):
    parts = make_parts("xlstm", dropout=0.5)
    batch = next(parts.batches.epoch(0))
    model = parts.model.train()
    before, random_state = copy_weights(model), torch.get_rng_state()
    first = look_inside(model, batch)
    assert first == look_inside(model, batch)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_rows_can_be_taken_once(train_toy, tmp_path):
    recorder = Recorder(tmp_path, every_steps=6)
    train_toy(observers=[recorder])
    assert recorder.take_rows() == rows(tmp_path, STEPS_FILE)
    assert recorder.take_rows() == []


def test_files_of_an_earlier_run_are_replaced(train_toy, tmp_path):
    (tmp_path / STEPS_FILE).write_text("x" * 10_000)
    train_toy(observers=[Recorder(tmp_path)])
    assert [row["step"] for row in rows(tmp_path, STEPS_FILE)] == [1, 20]


def test_files_shorter_than_the_checkpoint_says_are_refused(tmp_path):
    (tmp_path / STEPS_FILE).write_text("short")
    with pytest.raises(CheckpointError, match="holds 5 bytes, the checkpoint was written after 10"):
        Recorder(tmp_path).load_state({"sizes": {EPOCHS_FILE: 0, STEPS_FILE: 10}})


def test_grouped_norms_by_hand():
    norms = grouped_norms(
        [
            ("item_embedding.weight", torch.tensor([3.0])),
            ("sequence_model.layers.0.a", torch.tensor([1.0, 2.0])),
            ("sequence_model.layers.0.b", torch.tensor([[2.0]])),
            ("sequence_model.layers.1.a", torch.tensor([5.0])),
        ]
    )
    assert {name: value.item() for name, value in norms.items()} == {
        "embedding": 3.0,
        "block_0": 3.0,
        "block_1": 5.0,
    }
    assert grouped_norms([]) == {}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("sequence_model.positions.weight", "embedding"),
        ("time_gaps.weight", "embedding"),
        ("sequence_model.norm.weight", "head"),
        ("sequence_model.blocks.11.norm.weight", "block_11"),
    ],
)
def test_groups_of_names(name, group):
    assert parameter_group(name) == group


def test_zero_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every_steps is 0"):
        Recorder(tmp_path, every_steps=0)
