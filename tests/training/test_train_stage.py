"""The stage end to end on a small synthetic log, killed and resumed as a process is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tasks.data import fetch_stage, prepare_stage
from tasks.settings import settings_from_dict, write_params
from tasks.training import train_stage
from tasks.training.models import load_recommender
from tasks.training.observer import Observer
from tasks.training.plan import TrainingInterruptedError

PARAMS = {
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 60, "num_items": 20, "min_length": 6, "max_length": 20},
    },
    "train": {
        "shared": {
            "max_epochs": 2,
            "max_seq_len": 8,
            "batch_size": 16,
            "record_every_steps": 3,
            "checkpoint_every_steps": 4,
            "device": "cpu",
        },
        **{name: {"embedding_dim": 8} for name in ("gru", "lstm", "sasrec", "xlstm")},
    },
    "tracking": {"enabled": False},
}


@pytest.fixture(scope="module")
def settings():
    return settings_from_dict(PARAMS)


@pytest.fixture(scope="module")
def prepared(settings, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("prepared")
    fetch_stage.run(settings, workspace)
    prepare_stage.run(settings, workspace)
    return workspace / "data"


@pytest.fixture
def workspace(prepared, tmp_path):
    (tmp_path / "data").symlink_to(prepared)
    return tmp_path


def folder_of(workspace, model="gru", seed=0) -> Path:
    return workspace / "artifacts" / "models" / model / f"seed_{seed}"


def read_lines(path):
    times = ("seconds", "tokens_per_second")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


class Raise(Observer):
    """Raises an error, or does something, when a step is done."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def wants_step(self, step):
        return step == self.step

    def on_step(self, report):
        self.action()


def test_a_neural_model_leaves_its_files(settings, workspace, capsys):
    result = train_stage.run(settings, workspace, model="gru", seed=1)
    folder = folder_of(workspace, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "epochs.jsonl",
        "model.json",
        "model.safetensors",
        "record.json",
        "steps.jsonl",
    ]
    record = json.loads((folder / "record.json").read_text())
    epochs, steps = read_lines(folder / "epochs.jsonl"), read_lines(folder / "steps.jsonl")
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert [row["step"] for row in steps][:3] == [1, 3, 6]
    assert (record["model"], record["seed"]) == ("gru", 1)
    assert record["num_steps"] == epochs[-1]["step"]
    assert record["best_epoch"] == max(epochs, key=lambda row: row["val/ndcg_at_10"])["epoch"]
    assert record["val/ndcg_at_10"] == result["val/ndcg_at_10"]
    assert record["settings"]["gru"]["embedding_dim"] == 8
    assert record["settings"]["shared"]["max_seq_len"] == 8
    manifest = json.loads((workspace / "data" / "prepared" / "manifest.json").read_text())
    assert record["data_hash"] == manifest["data_hash"]
    assert record["versions"]["torch"] == torch.__version__
    assert record["peak_memory_mb"] > 10
    # Item vectors, GRU weights and biases, and the two numbers of the repeat bias.
    assert record["num_parameters"] == 21 * 8 + 2 * 3 * 8 * 8 + 2 * 3 * 8 + 2
    assert load_recommender(folder).name == "gru"
    assert not list((workspace / ".assay" / "checkpoints").iterdir())
    assert "gru seed 1: epoch 2/2: train/loss" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["popularity", "transitions", "logistic_regression"])
def test_a_count_model_leaves_the_same_files(settings, workspace, model):
    result = train_stage.run(settings, workspace, model=model)
    folder = folder_of(workspace, model)
    assert sorted(path.name for path in folder.iterdir()) == [
        "epochs.jsonl",
        "model.json",
        "model.safetensors",
        "record.json",
        "steps.jsonl",
    ]
    (epoch,) = read_lines(folder / "epochs.jsonl")
    assert (epoch["epoch"], epoch["val/ndcg_at_10"]) == (0, result["val/ndcg_at_10"])
    assert json.loads((folder / "record.json").read_text())["stop_reason"] == "fitted"
    assert load_recommender(folder).num_items == 20


def comparable(folder):
    files = {name: read_lines(folder / name) for name in ("epochs.jsonl", "steps.jsonl")}
    return (folder / "model.safetensors").read_bytes(), files


@pytest.mark.parametrize("step", [3, 9])
def test_killed_and_resumed_equals_unbroken(settings, workspace, step):
    train_stage.run(settings, workspace, model="gru")
    expected = comparable(folder_of(workspace))

    def kill():
        raise MemoryError("killed")

    with pytest.raises(MemoryError):
        train_stage.run(settings, workspace, model="gru", observers=[Raise(step, kill)])
    assert comparable(folder_of(workspace)) == expected  # the earlier result stays in place
    assert list((workspace / ".assay" / "checkpoints").iterdir())
    quiet = Raise(-1, kill)
    train_stage.run(settings, workspace, model="gru", observers=[quiet])
    assert comparable(folder_of(workspace)) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_and_a_message(settings, workspace, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    told = Raise(5, lambda: os.kill(os.getpid(), number))
    with pytest.raises(TrainingInterruptedError, match=r"stopped at step 5.*again to resume"):
        train_stage.run(settings, workspace, model="gru", observers=[told])
    (state,) = (workspace / ".assay" / "checkpoints").iterdir()
    assert (state / f"step_{5:012d}.json").is_file()
    assert not folder_of(workspace).exists()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_other_settings_do_not_resume(settings, workspace):
    def kill():
        raise MemoryError

    with pytest.raises(MemoryError):
        train_stage.run(settings, workspace, model="gru", observers=[Raise(9, kill)])
    changed = settings_from_dict(
        {**PARAMS, "train": {**PARAMS["train"], "gru": {"embedding_dim": 8, "dropout": 0.0}}}
    )
    steps = []

    class Count(Observer):
        def on_start(self, start):
            steps.append(start.resumed_step)

    train_stage.run(changed, workspace, model="gru", observers=[Count()])
    assert steps == [0]
    assert not list((workspace / ".assay" / "checkpoints").iterdir())  # both are cleaned up


def test_tracking_hears_of_every_epoch_and_recorded_step(settings, workspace, monkeypatch):
    heard = {"epochs": [], "steps": [], "folders": []}

    class Tracked:
        def log_epoch(self, values):
            heard["epochs"].append(values["epoch"])

        def on_steps(self, rows):
            heard["steps"] += [row["step"] for row in rows]

        def log_folder(self, folder):
            heard["folders"].append((folder / "record.json").is_file())

        on_epoch = log_epoch

    @contextmanager
    def model_run(*_):
        yield Tracked()

    monkeypatch.setattr(train_stage, "model_run", model_run)
    train_stage.run(settings, workspace, model="gru")
    steps = [row["step"] for row in read_lines(folder_of(workspace) / "steps.jsonl")]
    assert heard == {"epochs": [1, 2], "steps": steps, "folders": [True]}
    train_stage.run(settings, workspace, model="popularity")
    assert heard["epochs"] == [1, 2, 0]


def test_a_failed_write_leaves_the_earlier_result(settings, workspace, monkeypatch):
    train_stage.run(settings, workspace, model="popularity")
    expected = comparable(folder_of(workspace, "popularity"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train_stage, "_write_record", full)
    with pytest.raises(OSError, match="No space left"):
        train_stage.run(settings, workspace, model="popularity")
    assert comparable(folder_of(workspace, "popularity")) == expected
    assert [p.name for p in folder_of(workspace, "popularity").parent.iterdir()] == ["seed_0"]


@pytest.mark.long
def test_a_process_killed_at_any_moment_resumes_to_the_same_bits(workspace, repository):
    """SIGKILL, again and again, each time a little later than the last checkpoint."""
    longer = {**PARAMS["train"]["shared"], "max_epochs": 40, "patience": 40}
    settings = settings_from_dict({**PARAMS, "train": {**PARAMS["train"], "shared": longer}})
    train_stage.run(settings, workspace, model="gru")
    expected = comparable(folder_of(workspace))
    (folder_of(workspace) / "model.json").unlink()
    write_params(settings, workspace / "params.yaml")
    command = [sys.executable, "-m", "tasks", "train", "--model", "gru"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    kills, goal = 0, 50
    while True:
        process = subprocess.Popen(
            command, cwd=workspace, env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and newest_step(workspace) < goal:
            time.sleep(0.002)
        if process.poll() is not None:
            break
        time.sleep(0.003 * kills)
        process.kill()
        process.wait()
        kills += 1
        goal = newest_step(workspace) + 50
    assert process.returncode == 0
    assert kills >= 2
    assert comparable(folder_of(workspace)) == expected


def newest_step(workspace):
    """Step of the newest checkpoint; 0 without one."""
    found = (workspace / ".assay").rglob("step_*.json")
    return max((int(path.stem.removeprefix("step_")) for path in found), default=0)


def warm_settings(**changes):
    shared = PARAMS["train"]["shared"] | {"warm_start": True} | changes
    return settings_from_dict({**PARAMS, "train": {**PARAMS["train"], "shared": shared}})


def first_loss_of(folder):
    return json.loads((folder / "epochs.jsonl").read_text().splitlines()[0])["train/loss"]


def test_warm_start_begins_where_the_last_training_ended(settings, workspace, capsys):
    train_stage.run(warm_settings(), workspace, model="gru")
    assert "begins from" not in capsys.readouterr().out
    folder = workspace / "artifacts" / "models" / "gru" / "seed_0"
    first_loss = first_loss_of(folder)
    train_stage.run(warm_settings(label_smoothing=0.01), workspace, model="gru")
    assert (
        "gru seed 0 begins from the last training: 20 items known, 0 new" in capsys.readouterr().out
    )
    assert first_loss_of(folder) < first_loss


def test_a_warm_training_that_is_made_again_begins_where_it_began(settings, workspace, capsys):
    """Killed after its result was kept and before DVC took note of it, say."""
    folder = workspace / "artifacts" / "models" / "gru" / "seed_0"
    weights = []
    for smoothing in (0.0, 0.0, 0.01, 0.01, 0.01):
        train_stage.run(warm_settings(label_smoothing=smoothing), workspace, model="gru")
        weights.append((folder / "model.safetensors").read_bytes())
        shutil.rmtree(workspace / ".assay" / "checkpoints")
    assert weights[0] == weights[1] != weights[2] == weights[3] == weights[4]
    assert capsys.readouterr().out.count("begins from the last training") == 3
