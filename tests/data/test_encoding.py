from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.encoding import Vocabulary, VocabularyError, fit_vocabulary, read_vocabulary
from tasks.data.events import list_raw_ids


def test_fit_vocabulary_is_contiguous_and_starts_where_told() -> None:
    items = fit_vocabulary(np.array([4, 1, 4]), pl.Series(["a", "b", "c", "d", "e"]), 1)
    assert items.raw_ids.to_list() == ["b", "e"]
    assert items.encode(["e", "b", "a"]).tolist() == [2, 1, -1]
    assert len(items) == 2


def test_fit_vocabulary_of_nothing_is_empty() -> None:
    empty = fit_vocabulary(np.array([], dtype=np.int64), pl.Series(["a"]), 1)
    assert len(empty) == 0
    assert empty.encode(["a"]).tolist() == [-1]


@pytest.mark.parametrize("outside", [0, 3, -1])
def test_decode_refuses_padding_and_unknown_ids(outside: int) -> None:
    vocabulary = Vocabulary(pl.Series(["a", "b"]), first_id=1)
    with pytest.raises(VocabularyError, match=f"id {outside} is not"):
        vocabulary.decode(np.array([1, outside]))


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=20, unique=True))
def test_encode_and_decode_are_inverse(texts: list[str]) -> None:
    vocabulary = Vocabulary(list_raw_ids(pl.Series(texts)), first_id=1)
    ids = vocabulary.encode(texts)
    assert sorted(ids.tolist()) == list(range(1, len(texts) + 1))
    assert vocabulary.decode(ids) == texts


@given(st.sets(st.text(min_size=1, max_size=5), max_size=20))
def test_csv_round_trip_of_any_text(texts: set[str]) -> None:
    vocabulary = Vocabulary(list_raw_ids(pl.Series(list(texts), dtype=pl.String)), first_id=1)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.write_csv(Path(folder) / "v.csv", "item_id")
        again = read_vocabulary(Path(folder) / "v.csv")
    assert again.raw_ids.to_list() == vocabulary.raw_ids.to_list()


@pytest.mark.parametrize("first_id", [0, 1])
def test_csv_round_trip_of_awkward_ids(tmp_path: Path, first_id: int) -> None:
    raw = ["NA", "null", "1", "01", "1.0", 'say "hi"', "a,b", "two\nlines", " x ", "é", "日本"]
    vocabulary = Vocabulary(list_raw_ids(pl.Series(raw)), first_id)
    vocabulary.write_csv(tmp_path / "v.csv", "item_id")
    again = read_vocabulary(tmp_path / "v.csv")
    assert again.raw_ids.to_list() == vocabulary.raw_ids.to_list()
    assert again.first_id == first_id
    assert (tmp_path / "v.csv").read_text(encoding="utf-8").startswith("item_id,raw_id\n")


@pytest.mark.parametrize(
    ("text", "problem"), [("1,a\n3,b\n", "gaps"), ("1,a\n2,a\n", "raw id occurs twice")]
)
def test_read_vocabulary_refuses_a_damaged_file(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "v.csv").write_text("item_id,raw_id\n" + text)
    with pytest.raises(VocabularyError, match=problem):
        read_vocabulary(tmp_path / "v.csv")


def test_read_vocabulary_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"v\.csv does not exist"):
        read_vocabulary(tmp_path / "v.csv")


def test_ids_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "import polars as pl; from tasks.data.events import list_raw_ids;"
        "print(list_raw_ids(pl.Series([str(k * 7919 % 1000) for k in range(3000)])).to_list())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
