"""Vocabularies: raw ids to the integers models see, and back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tasks.data.events import find_positions


class VocabularyError(ValueError):
    """A vocabulary can't be used, or an id is not in it."""


@dataclass(frozen=True)
class Vocabulary:
    """Distinct raw ids, numbered without gaps from ``first_id``.

    Attributes:
        raw_ids: Text, one entry per id, in the order of the ids.
        first_id: 1 for items (0 is padding), 0 for users.
    """

    raw_ids: pl.Series
    first_id: int

    def __len__(self) -> int:
        """Number of raw ids."""
        return len(self.raw_ids)

    def encode(self, raw_ids: pl.Series | Sequence[str]) -> np.ndarray:
        """Return the id of every raw id, -1 where it is not in the vocabulary, as (N,) int32.

        >>> Vocabulary(pl.Series(["x", "y"]), first_id=1).encode(["y", "z"]).tolist()
        [2, -1]
        """
        positions = find_positions(pl.Series(raw_ids, dtype=pl.String), self.raw_ids)
        return np.where(positions >= 0, positions + self.first_id, -1).astype(np.int32)

    def decode(self, ids: np.ndarray | Sequence[int]) -> list[str]:
        """Return the raw id of every id.

        Raises:
            VocabularyError: An id is outside ``first_id .. first_id + len(self) - 1``; padding
                is outside too.

        >>> Vocabulary(pl.Series(["x", "y"]), first_id=1).decode(np.array([2, 1]))
        ['y', 'x']
        """
        positions = np.asarray(ids, dtype=np.int64) - self.first_id
        outside = (positions < 0) | (positions >= len(self))
        if outside.any():
            raise VocabularyError(
                f"id {int(np.asarray(ids)[outside][0])} is not in the vocabulary; expected "
                f"{self.first_id} to {self.first_id + len(self) - 1}."
            )
        return self.raw_ids.gather(positions).to_list()

    def write_csv(self, path: Path, id_column: str) -> None:
        """Write one line per id: the number, the raw id."""
        ids = pl.Series(id_column, np.arange(len(self)) + self.first_id, dtype=pl.Int64)
        pl.DataFrame([ids, self.raw_ids.alias("raw_id")]).write_csv(path)


def fit_vocabulary(positions: np.ndarray, raw_ids: pl.Series, first_id: int) -> Vocabulary:
    """Number the raw ids that occur, in their order in ``raw_ids``.

    Args:
        positions: Positions in ``raw_ids``, in any order, repeats allowed, none negative.
        raw_ids: Distinct raw ids in an order that depends on nothing but the set of them.
        first_id: Number of the first one.

    >>> fit_vocabulary(np.array([2, 0, 2]), pl.Series(["a", "b", "c"]), 1).raw_ids.to_list()
    ['a', 'c']
    """
    occurs = np.bincount(positions, minlength=len(raw_ids)) > 0
    return Vocabulary(raw_ids.filter(pl.Series(occurs)), first_id)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary written by ``Vocabulary.write_csv``.

    Raises:
        VocabularyError: The file is missing, or its ids are not distinct and without gaps.
    """
    if not path.is_file():
        raise VocabularyError(f"{path} does not exist. Run the prepare stage first.")
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.reader(stream))[1:]
    ids = np.array([line[0] for line in lines], dtype=np.int64)
    raw_ids = pl.Series("raw_id", [line[1] for line in lines], dtype=pl.String)
    first_id = int(ids[0]) if len(ids) else 0
    if not np.array_equal(ids, np.arange(len(ids)) + first_id):
        raise VocabularyError(f"{path}: the ids have gaps; expected {first_id} and up, by one.")
    if raw_ids.n_unique() != len(raw_ids):
        raise VocabularyError(f"{path}: a raw id occurs twice; expected each once.")
    return Vocabulary(raw_ids, first_id)
