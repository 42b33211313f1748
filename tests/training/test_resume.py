"""A training killed anywhere and resumed gives the bits of one that was never touched."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.training.checkpoint import CheckpointFolder
from tasks.training.loop import train
from tasks.training.negatives import NegativeSampler, item_distribution
from tasks.training.objective import FullCrossEntropy, SampledObjective
from tasks.training.record import EPOCHS_FILE, STEPS_FILE, Recorder
from tasks.training.resume import CheckpointWarning
from tasks.training.snapshot import copy_weights

TIMES = ("seconds", "tokens_per_second")


class Kill(BaseException):
    """What a kill looks like from inside."""


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def read_rows(folder, name):
    return without_times(json.loads(line) for line in (folder / name).read_text().splitlines())


def run(parts, plan, folder, kill_at=None):
    """Trains with checkpoints and recorder; raises Kill inside step number ``kill_at``."""
    done = []

    def step(*arguments, **options):
        result = parts.step(*arguments, **options)
        done.append(result)
        if len(done) == kill_at:
            raise Kill
        return result

    checkpoints = CheckpointFolder(folder, "run")
    record = train(
        replace(parts, step=step),
        plan,
        observers=[Recorder(folder, every_steps=2)],
        checkpoints=checkpoints,
    )
    return record, len(done)


def results(parts, record, folder):
    return {
        "weights": copy_weights(parts.model),
        "history": without_times(record.history),
        "record": (record.best_epoch, record.best_value, record.stop_reason, record.num_steps),
        EPOCHS_FILE: read_rows(folder, EPOCHS_FILE),
        STEPS_FILE: read_rows(folder, STEPS_FILE),
    }


def assert_same(found, expected):
    for name, tensor in expected["weights"].items():
        assert torch.equal(found["weights"][name], tensor), name
    for part in ("history", "record", EPOCHS_FILE, STEPS_FILE):
        assert found[part] == expected[part], part


def objective_of(name, data):
    if name == "cross_entropy":
        return FullCrossEntropy()
    probabilities = item_distribution(data.num_items, "popularity", data.item_counts, 0.75)
    return SampledObjective("bce", NegativeSampler(probabilities, num_negatives=4, scope="user"))


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ("gru", "cross_entropy"),
        ("gru", "bce"),
        ("lstm", "cross_entropy"),
        ("sasrec", "cross_entropy"),
        ("xlstm", "cross_entropy"),
    ],
)
def test_killed_and_resumed_equals_unbroken(make_parts, plan, data, tmp_path, model, loss):
    def parts():
        return make_parts(model, dropout=0.3, objective=objective_of(loss, data))

    plan = replace(plan, patience=2)
    whole = parts()
    record, num_steps = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    # Before the first checkpoint, between two, right behind one, and at the very end.
    for kill_at in (2, 6, plan.checkpoint_every_steps + 1, num_steps):
        folder = tmp_path / f"killed_at_{kill_at}"
        with pytest.raises(Kill):
            run(parts(), plan, folder, kill_at)
        again = parts()
        record, remaining = run(again, plan, folder)
        assert remaining <= num_steps - kill_at + plan.checkpoint_every_steps
        assert_same(results(again, record, folder), expected)


def test_killed_again_and_again(make_parts, plan, tmp_path):
    whole = make_parts()
    record, _ = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    folder = tmp_path / "killed"
    for _ in range(30):
        parts = make_parts(seed=0)
        try:
            record, _ = run(parts, plan, folder, kill_at=plan.checkpoint_every_steps + 1)
        except Kill:
            continue
        break
    assert_same(results(parts, record, folder), expected)


@pytest.mark.parametrize("moment", ["validation", "observer", "checkpoint"])
def test_killed_between_the_steps(make_parts, plan, tmp_path, monkeypatch, moment):
    whole = make_parts()
    record, _ = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    folder, parts, calls = tmp_path / "killed", make_parts(), []

    def killing(function):
        def wrapper(*arguments, **options):
            calls.append(1)
            if len(calls) == 2:
                raise Kill
            return function(*arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        if moment == "validation":
            killed = replace(parts, validate=killing(parts.validate))
        else:
            killed = parts
            place = (Recorder, "on_epoch") if moment == "observer" else (CheckpointFolder, "write")
            patch.setattr(*place, killing(getattr(*place)))
        with pytest.raises(Kill):
            run(killed, plan, folder)
    again = make_parts()
    record, _ = run(again, plan, folder)
    assert_same(results(again, record, folder), expected)


def test_resuming_a_finished_run_trains_nothing(make_parts, plan, tmp_path):
    whole = make_parts()
    record, _ = run(whole, plan, tmp_path)
    expected = results(whole, record, tmp_path)
    again = make_parts(seed=3)
    record, num_steps = run(again, plan, tmp_path)
    assert num_steps == 0
    assert_same(results(again, record, tmp_path), expected)


def test_a_corrupt_newest_checkpoint_costs_only_its_steps(make_parts, plan, tmp_path):
    whole = make_parts()
    record, num_steps = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    folder = tmp_path / "killed"
    with pytest.raises(Kill):
        run(make_parts(), plan, folder, kill_at=num_steps - 1)
    newest = sorted(folder.glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    again = make_parts()
    with pytest.warns(CheckpointWarning, match=r"checksum of its tensors.*Resuming at"):
        record, _ = run(again, plan, folder)
    assert_same(results(again, record, folder), expected)


@pytest.mark.parametrize("name", [STEPS_FILE, EPOCHS_FILE])
def test_a_truncated_record_costs_checkpoints_only(make_parts, plan, tmp_path, name):
    whole = make_parts()
    record, num_steps = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    folder = tmp_path / "killed"
    with pytest.raises(Kill):
        run(make_parts(), plan, folder, kill_at=num_steps - 1)
    os.truncate(folder / name, 10)
    again = make_parts()
    with pytest.warns(CheckpointWarning, match="holds 10 bytes.*Starting anew"):
        record, remaining = run(again, plan, folder)
    assert remaining == num_steps
    assert_same(results(again, record, folder), expected)


def test_no_sound_checkpoint_starts_anew(make_parts, plan, tmp_path):
    whole = make_parts()
    record, num_steps = run(whole, plan, tmp_path / "whole")
    expected = results(whole, record, tmp_path / "whole")
    folder = tmp_path / "killed"
    with pytest.raises(Kill):
        run(make_parts(), plan, folder, kill_at=num_steps)
    for path in folder.glob("step_*.json"):
        path.write_text("{")
    again = make_parts()
    with pytest.warns(CheckpointWarning, match="damaged"):
        record, remaining = run(again, plan, folder)
    assert remaining == num_steps
    assert_same(results(again, record, folder), expected)


def test_generators_of_every_library_come_back(make_parts, plan, tmp_path):
    drawn = []

    def draw():
        return (random.random(), float(np.random.rand()), torch.rand(1).item())

    def validate(model):
        drawn.append(draw())
        return {"ndcg_at_10": float(len(drawn))}

    parts = replace(make_parts(), validate=validate)
    run(parts, plan, tmp_path / "whole")
    expected, killed_in = list(drawn), parts.batches.num_batches(0) + 2
    drawn.clear()
    folder = tmp_path / "killed"
    with pytest.raises(Kill):
        run(replace(make_parts(), validate=validate), plan, folder, kill_at=killed_in)
    assert len(drawn) == 1
    run(replace(make_parts(), validate=validate), plan, folder)
    # torch's generator is seeded by the batch before, the others come from the checkpoint.
    assert drawn == expected


def test_other_observers_are_refused(make_parts, plan, tmp_path):
    with pytest.raises(Kill):
        run(make_parts(), plan, tmp_path, kill_at=8)
    with pytest.raises(ValueError, match="written with 1 observers; this run has 0"):
        train(make_parts(), plan, checkpoints=CheckpointFolder(tmp_path, "run"))
