from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.build import build_prepared
from tasks.data.integrity import PreparedDataError
from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.data.recipe import Recipe


def test_load_maps_what_was_prepared(toy: PreparedData) -> None:
    assert (toy.num_users, toy.num_items, len(toy.train)) == (3, 4, 3)
    assert toy.train.sequence(0).tolist() == [2, 3, 2]
    assert toy.train.lengths.tolist() == [3, 2, 1]
    assert toy.test.targets.tolist() == [3, 2, 1]
    assert len(toy.val) == 3
    assert isinstance(toy.train.items, np.memmap)
    assert not toy.train.items.flags.writeable


def test_item_counts_are_those_of_training(toy: PreparedData) -> None:
    assert toy.item_counts.tolist() == [0, 0, 3, 2, 1]
    assert toy.item_counts.dtype == np.int64


def test_sequence_refuses_an_index_outside(toy: PreparedData) -> None:
    with pytest.raises(IndexError, match="sequence 3"):
        toy.train.sequence(3)


def test_histories_are_right_padded_and_hold_the_validation_event_in_test(toy) -> None:
    item_ids, lengths, times = toy.histories(toy.test, np.array([2, 0]), max_len=10)
    assert item_ids.tolist() == [[3, 3, 0, 0], [2, 3, 2, 4]]
    assert lengths.tolist() == [2, 4]
    assert times.tolist() == [
        [5_000_000, 6_000_000, 0, 0],
        [10**7, 2 * 10**7, 3 * 10**7, 4 * 10**7],
    ]
    assert {array.dtype for array in (item_ids, lengths, times)} == {np.dtype("int64")}


def test_histories_keep_the_last_events(toy: PreparedData) -> None:
    item_ids, lengths, _ = toy.histories(toy.test, np.array([0, 1]), max_len=2)
    assert item_ids.tolist() == [[2, 4], [2, 4]]
    assert lengths.tolist() == [2, 2]
    only_extra, _, _ = toy.histories(toy.test, np.array([0]), max_len=1)
    assert only_extra.tolist() == [[4]]


def test_histories_of_validation_hold_training_only(toy: PreparedData) -> None:
    item_ids, lengths, _ = toy.histories(toy.val, np.arange(3), max_len=3)
    assert item_ids.tolist() == [[2, 3, 2], [4, 2, 0], [3, 0, 0]]
    assert lengths.tolist() == [3, 2, 1]


def test_histories_of_no_example(toy: PreparedData) -> None:
    item_ids, lengths, _ = toy.histories(toy.test, np.array([], dtype=np.int64), max_len=3)
    assert (item_ids.shape, lengths.shape) == ((0, 0), (0,))


def test_histories_refuse_a_length_of_zero(toy: PreparedData) -> None:
    with pytest.raises(ValueError, match="max_len is 0"):
        toy.histories(toy.test, np.array([0]), max_len=0)


def test_seen_items_list_the_whole_history(toy: PreparedData) -> None:
    rows, items = toy.seen_items(toy.test, np.array([1, 0]))
    pairs = sorted(zip(rows.tolist(), items.tolist(), strict=True))
    assert pairs == [(0, 2), (0, 4), (0, 4), (1, 2), (1, 2), (1, 3), (1, 4)]
    assert rows.dtype == items.dtype == np.int64


def _packed(lists: list[list[int]]) -> PackedSequences:
    flat = np.array([x for part in lists for x in part], dtype=np.int64)
    offsets = np.cumsum([0] + [len(part) for part in lists])
    return PackedSequences(flat.astype(np.int32), flat * 100, flat * 7, offsets)


ITEMS = st.lists(st.integers(1, 9), max_size=6)


@given(st.lists(st.tuples(ITEMS, ITEMS), min_size=1, max_size=6), st.integers(1, 8), st.data())
@settings(deadline=None)
def test_histories_equal_a_slow_loop(pairs, max_len: int, data: st.DataObject) -> None:
    train, extra = _packed([a for a, _ in pairs]), _packed([b for _, b in pairs])
    count = len(pairs)
    blank = np.zeros(count, dtype=np.int64)
    split = EvaluationSplit("test", np.arange(count), blank, blank, blank, extra)
    prepared = PreparedData(Path("."), count, 9, {}, train, split, split)
    index = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=8)), dtype=np.int64)
    item_ids, lengths, times = prepared.histories(split, index, max_len)
    rows, items = prepared.seen_items(split, index)
    for at, example in enumerate(index):
        whole = pairs[example][0] + pairs[example][1]
        kept = whole[-max_len:]
        assert item_ids[at].tolist() == kept + [0] * (item_ids.shape[1] - len(kept))
        assert times[at, : lengths[at]].tolist() == [item * 100 for item in kept]
        assert lengths[at] == len(kept)
        assert items[rows == at].tolist() == whole


def test_a_missing_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PreparedDataError, match="python -m tasks prepare"):
        PreparedData.load(tmp_path)


def test_another_format_version_is_refused(toy: PreparedData) -> None:
    path = toy.folder / "manifest.json"
    manifest = json.loads(path.read_text()) | {"format_version": 99}
    path.write_text(json.dumps(manifest))
    with pytest.raises(PreparedDataError, match="format_version 99"):
        PreparedData.load(toy.folder)


def test_verify_names_the_changed_file(toy: PreparedData) -> None:
    PreparedData.load(toy.folder, verify=True)
    path = toy.folder / "val.targets.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    PreparedData.load(toy.folder)
    with pytest.raises(PreparedDataError, match=r"val\.targets\.npy has SHA-256"):
        PreparedData.load(toy.folder, verify=True)


@pytest.mark.parametrize("name", ["train.items.npy", "test.extra_offsets.npy", "users.csv"])
def test_verify_names_the_missing_file(toy: PreparedData, name: str) -> None:
    (toy.folder / name).unlink()
    with pytest.raises(PreparedDataError, match=name.replace(".", r"\.")):
        PreparedData.load(toy.folder, verify=True)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("train.items", b"no array", "cannot be read"),
        ("train.items", np.zeros(2, np.int32), "offsets end at"),
        ("train.offsets", np.array([0, 6]), "1 sequences"),
    ],
)
def test_load_refuses_damaged_arrays(toy: PreparedData, name: str, content, problem: str) -> None:
    path = toy.folder / f"{name}.npy"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(PreparedDataError, match=problem):
        PreparedData.load(toy.folder)


def test_a_pickle_is_never_read(toy: PreparedData) -> None:
    path = toy.folder / "train.items.npy"
    path.unlink()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PreparedDataError, match=r"train\.items\.npy cannot be read"):
        PreparedData.load(toy.folder)


def test_the_read_side_needs_numpy_alone(tmp_path: Path, toy_log: pl.DataFrame) -> None:
    build_prepared(tmp_path / "prepared", toy_log, Recipe())
    program = (
        "import sys; from tasks.data.prepared import PreparedData;"
        f"data = PreparedData.load({str(tmp_path / 'prepared')!r}, verify=True);"
        "heavy = {'polars', 'pandas', 'pandera', 'pyarrow', 'pydantic', 'scipy', 'torch'};"
        "print(data.num_items, sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.decode().split(maxsplit=1) == ["4", "[]\n"]
