from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tasks.data.events import Events
from tasks.data.sequences import (
    expand_ranges,
    hash_array,
    pack_examples,
    pack_sequences,
    save_arrays,
)
from tasks.data.splits import Examples


def _events(users, items) -> Events:
    count = len(users)
    return Events(
        np.array(users, dtype=np.int32),
        np.array(items, dtype=np.int32),
        np.arange(count, dtype=np.int64) * 10,
        np.arange(count, dtype=np.int64),
    )


def test_pack_sequences_leaves_room_for_empty_ones() -> None:
    events = _events([0, 0, 2], [5, 6, 7])
    packed = pack_sequences("train.", events, events.users, 4)
    assert packed["train.offsets"].tolist() == [0, 2, 2, 3, 3]
    assert packed["train.items"].tolist() == [5, 6, 7]
    assert packed["train.items"].dtype == np.int32
    assert {packed[f"train.{n}"].dtype for n in ("times", "rows", "offsets")} == {np.dtype("int64")}


def test_pack_examples_leaves_unknown_items_out_of_the_history_but_not_the_target() -> None:
    events = _events([0, 0, 0, 0, 1], [3, -1, 4, -1, 2])
    packed = pack_examples("test", events, Examples(np.array([3, 4]), np.array([1, 4])))
    assert packed["test.users"].tolist() == [0, 1]
    assert packed["test.targets"].tolist() == [-1, 2]
    assert packed["test.target_rows"].tolist() == [3, 4]
    assert packed["test.extra_items"].tolist() == [4]
    assert packed["test.extra_rows"].tolist() == [2]
    assert packed["test.extra_offsets"].tolist() == [0, 1, 1]


def test_expand_ranges_of_nothing() -> None:
    owners, positions = expand_ranges(np.array([3, 5]), np.array([3, 5]))
    assert (len(owners), len(positions)) == (0, 0)


@pytest.mark.parametrize(
    "array", [np.zeros(0, np.int32), np.arange(7), np.arange(300_000, dtype=np.int32)]
)
def test_hash_array_is_the_hash_of_the_file(tmp_path: Path, array: np.ndarray) -> None:
    save_arrays(tmp_path, {"a": array})
    content = (tmp_path / "a.npy").read_bytes()
    assert hash_array(array) == hashlib.sha256(content).hexdigest()
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)
