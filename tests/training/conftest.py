"""Toy data: item k is followed by k + 1 most of the time, so that a model can learn something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.training.batches import WindowBatches
from tasks.training.loop import train
from tasks.training.models import model_spec
from tasks.training.objective import FullCrossEntropy
from tasks.training.plan import TrainingPlan
from tasks.training.step import TrainingParts
from tasks.training.validation import FullRankingValidator

NUM_ITEMS = 12
MAX_SEQ_LEN = 6
SETTINGS = {
    "embedding_dim": 8,
    "num_layers": 1,
    "dropout": 0.1,
    "tied": True,
    "num_heads": 2,
    "pattern": "ms",
    "conv_kernel": 3,
    "slstm_conv_gates": "if",
    "chunk_size": 4,
    "time_gaps": False,
    "learning_rate": 0.02,
    "weight_decay": 0.01,
}
"""A section that fits every neural model."""


def pack(sequences, first_row=0):
    lengths = [len(sequence) for sequence in sequences]
    items = np.array([item for sequence in sequences for item in sequence], dtype=np.int32)
    rows = np.arange(first_row, first_row + len(items), dtype=np.int64)
    return PackedSequences(
        items, rows * 1_000_000, rows, np.r_[0, np.cumsum(lengths)].astype(np.int64)
    )


def split(name, targets, num_users, extra):
    targets = np.array(targets, dtype=np.int64)
    rows = np.arange(len(targets), dtype=np.int64)
    return EvaluationSplit(name, np.arange(num_users), targets, rows, rows, extra)


def make_data(num_users=40, seed=0, num_items=NUM_ITEMS):
    rng = np.random.default_rng(seed)
    train_events, val, test = [], [], []
    for _ in range(num_users):
        length = int(rng.integers(4, 16))
        items = [int(rng.integers(1, num_items + 1))]
        for _ in range(length + 1):
            jump = 1 if rng.random() < 0.8 else int(rng.integers(1, num_items))
            items.append((items[-1] + jump - 1) % num_items + 1)
        train_events.append(items[:-2])
        val.append(items[-2])
        test.append(items[-1])
    empty = pack([[] for _ in range(num_users)])
    return PreparedData(
        folder=Path(),
        num_users=num_users,
        num_items=num_items,
        manifest={"data_hash": "toy"},
        train=pack(train_events),
        val=split("val", val, num_users, empty),
        test=split("test", test, num_users, pack([[item] for item in val])),
    )


@pytest.fixture(scope="session")
def data():
    return make_data()


@pytest.fixture
def make_parts(data):
    """(model name, overrides of the model's settings) -> parts with new weights."""

    def make(name="gru", seed=0, batch_size=8, objective=None, **overrides):
        recommender = model_spec(name).build(
            data.num_items, {**SETTINGS, **overrides}, max_seq_len=MAX_SEQ_LEN, seed=seed
        )
        batches = WindowBatches(
            data.train.items,
            data.train.offsets,
            max_seq_len=MAX_SEQ_LEN,
            batch_size=batch_size,
            seed=seed,
            times=data.train.times,
        )
        return TrainingParts(
            model=recommender.model,
            objective=objective or FullCrossEntropy(),
            batches=batches,
            validate=FullRankingValidator(data, data.val, MAX_SEQ_LEN),
        )

    return make


@pytest.fixture
def plan():
    return TrainingPlan(
        max_epochs=3, learning_rate=0.02, warmup_steps=4, checkpoint_every_steps=4, seed=5
    )


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train_toy(make_parts, plan):
    """Trains a toy model; returns (parts, record)."""

    def run(name="gru", observers=(), checkpoints=None, should_stop=lambda: False, **options):
        parts = make_parts(name, **options)
        record = train(
            parts, plan, observers=observers, checkpoints=checkpoints, should_stop=should_stop
        )
        return parts, record

    return run
