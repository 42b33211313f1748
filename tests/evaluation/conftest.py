"""Small prepared data made in memory, without the prepare stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData

MakeData = Callable[..., PreparedData]


def pack(sequences: Sequence[Sequence[int]]) -> PackedSequences:
    items = np.array([item for sequence in sequences for item in sequence], np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    numbers = np.arange(len(items), dtype=np.int64)
    return PackedSequences(items=items, times=numbers, rows=numbers, offsets=offsets)


@pytest.fixture(scope="session")
def leave_one_out() -> MakeData:
    """Return a function from whole sequences to data with the last two events held out."""

    def build(sequences: Sequence[Sequence[int]], num_items: int) -> PreparedData:
        users = np.arange(len(sequences), dtype=np.int64)

        def split(name: str, targets: list[int], extra: list[list[int]]) -> EvaluationSplit:
            target_ids = np.array(targets, np.int64)
            return EvaluationSplit(name, users, target_ids, users, users, pack(extra))

        return PreparedData(
            folder=Path("."),
            num_users=len(sequences),
            num_items=num_items,
            manifest={"data_hash": "toy"},
            train=pack([s[:-2] for s in sequences]),
            val=split("val", [s[-2] for s in sequences], [[] for _ in sequences]),
            test=split("test", [s[-1] for s in sequences], [[s[-2]] for s in sequences]),
        )

    return build


@pytest.fixture(scope="session")
def random_data(leave_one_out: MakeData) -> PreparedData:
    """Sixty users with 3 to 40 events over 30 items; repeats occur."""
    generator = np.random.default_rng(7)
    lengths = generator.integers(3, 41, size=60)
    sequences = [generator.integers(1, 31, size=length).tolist() for length in lengths]
    return leave_one_out(sequences, num_items=30)
