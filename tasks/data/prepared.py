"""Prepared data on disk: packed sequences, evaluation examples and the batches made of them.

Reads what the prepare stage wrote. Needs numpy and the standard library only, so a machine that
has nothing but torch can train. Arrays are memory-mapped and read-only; nothing is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tasks.data.integrity import PreparedDataError, read_manifest, verify_files

SEQUENCE_FIELDS = ("items", "times", "rows", "offsets")
EXAMPLE_FIELDS = ("users", "targets", "target_times", "target_rows")

SplitName = Literal["val", "test"]


class Histories(NamedTuple):
    """A batch of histories, right-padded.

    Attributes:
        item_ids: (B, S) int64, encoded items, 0 where padded.
        lengths: (B,) int64, real events per row.
        times: (B, S) int64, microseconds since the epoch, 0 where padded.
    """

    item_ids: np.ndarray
    lengths: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class PackedSequences:
    """Sequences laid end to end.

    Attributes:
        items: (N,) int32, encoded 1..num_items.
        times: (N,) int64, microseconds since the epoch.
        rows: (N,) int64, row in the raw log (from 0): the identity of an event.
        offsets: (U + 1,) int64; sequence u is the slice ``offsets[u]:offsets[u + 1]``.
    """

    items: np.ndarray
    times: np.ndarray
    rows: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        """Number of sequences, empty ones included."""
        return len(self.offsets) - 1

    def sequence(self, u: int) -> np.ndarray:
        """Return the items of sequence ``u``, oldest first, as int32.

        Raises:
            IndexError: There is no such sequence; they are counted from 0.
        """
        if not 0 <= u < len(self):
            raise IndexError(f"sequence {u} asked for; there are {len(self)}, counted from 0.")
        return self.items[self.offsets[u] : self.offsets[u + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Events per sequence, (U,) int64."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class EvaluationSplit:
    """One held-out example per user: predict ``targets`` from training plus ``extra`` events.

    Attributes:
        name: ``val`` or ``test``.
        users: (E,) int64, index into the training sequences, ascending, no user twice.
        targets: (E,) int64, encoded item; -1 is an item outside the vocabulary, which no model
            can name: it counts as a miss at the worst rank.
        target_times: (E,) int64, microseconds since the epoch.
        target_rows: (E,) int64, row in the raw log.
        extra: E sequences, the held-out events that lie after training and before the target.
    """

    name: SplitName
    users: np.ndarray
    targets: np.ndarray
    target_times: np.ndarray
    target_rows: np.ndarray
    extra: PackedSequences

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.users)


@dataclass(frozen=True)
class PreparedData:
    """Everything training and evaluation read.

    Attributes:
        folder: Where the files lie.
        num_users: Training sequences, empty ones (cold users that are kept) included.
        num_items: Items in the vocabulary; encoded ids are 1..num_items.
        manifest: Counts, settings, hashes, warnings, leakage results.
        train: One sequence per user.
        val: Validation examples.
        test: Test examples.
    """

    folder: Path
    num_users: int
    num_items: int
    manifest: dict
    train: PackedSequences
    val: EvaluationSplit
    test: EvaluationSplit

    @classmethod
    def load(cls, folder: Path | str, verify: bool = False) -> PreparedData:
        """Map the files of a prepared folder.

        Args:
            folder: Folder the prepare stage wrote.
            verify: Compare the SHA-256 of every file with the manifest (reads everything).

        Raises:
            PreparedDataError: The manifest or a file is missing, damaged or of another version.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if verify:
            verify_files(folder, manifest)
        train = _load_sequences(folder, "train.")
        counts = manifest["counts"]
        if len(train) != counts["users"]:
            raise PreparedDataError(
                f"train.offsets.npy in {folder} holds {len(train)} sequences; the manifest counts "
                f"{counts['users']} users. Run the prepare stage again."
            )
        return cls(
            folder=folder,
            num_users=counts["users"],
            num_items=counts["items"],
            manifest=manifest,
            train=train,
            val=_load_split(folder, "val"),
            test=_load_split(folder, "test"),
        )

    def histories(self, split: EvaluationSplit, index: np.ndarray, max_len: int) -> Histories:
        """Return the last ``max_len`` events before the targets of the chosen examples.

        Args:
            split: ``self.val`` or ``self.test``.
            index: (B,) positions of examples within the split.
            max_len: Longest history kept, at least 1.

        Returns:
            Histories of B rows; S is the longest of them (0 when all are empty or B is 0).

        Raises:
            ValueError: ``max_len`` is below 1.
        """
        if max_len < 1:
            raise ValueError(f"max_len is {max_len}; expected at least 1 event of history.")
        index = np.asarray(index, dtype=np.int64)
        users = split.users[index]
        from_train = self.train.offsets[users + 1] - self.train.offsets[users]
        total = from_train + split.extra.offsets[index + 1] - split.extra.offsets[index]
        lengths = np.minimum(total, max_len)
        width = int(lengths.max(initial=0))
        columns = np.arange(width)
        real = columns < lengths[:, None]
        position = (total - lengths)[:, None] + columns
        in_train = real & (position < from_train[:, None])
        in_extra = real & ~in_train
        train_at = (self.train.offsets[users][:, None] + position)[in_train]
        extra_start = split.extra.offsets[index] - from_train
        extra_at = (extra_start[:, None] + position)[in_extra]
        item_ids = np.zeros((len(index), width), dtype=np.int64)
        times = np.zeros((len(index), width), dtype=np.int64)
        item_ids[in_train] = self.train.items[train_at]
        item_ids[in_extra] = split.extra.items[extra_at]
        times[in_train] = self.train.times[train_at]
        times[in_extra] = split.extra.times[extra_at]
        return Histories(item_ids, lengths, times)

    def seen_items(
        self, split: EvaluationSplit, index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """List every item in the whole history of the chosen examples, for the seen filter.

        Args:
            split: ``self.val`` or ``self.test``.
            index: (B,) positions of examples within the split.

        Returns:
            Two int64 arrays (P,): row within the batch, encoded item. An item bought twice is
            listed twice.
        """
        index = np.asarray(index, dtype=np.int64)
        train_row, train_at = _expand(self.train.offsets, split.users[index])
        extra_row, extra_at = _expand(split.extra.offsets, index)
        rows = np.concatenate([train_row, extra_row])
        items = np.concatenate([self.train.items[train_at], split.extra.items[extra_at]])
        return rows, items.astype(np.int64)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """Training events per encoded item, (num_items + 1,) int64; entry 0 (padding) is 0."""
        return np.bincount(self.train.items, minlength=self.num_items + 1).astype(np.int64)


def _load_array(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PreparedDataError(
            f"{path} cannot be read ({error}). Run the prepare stage again."
        ) from error


def _load_sequences(folder: Path, prefix: str) -> PackedSequences:
    arrays = {field: _load_array(folder, f"{prefix}{field}") for field in SEQUENCE_FIELDS}
    sizes = {len(arrays[field]) for field in ("items", "times", "rows")}
    if len(arrays["offsets"]) == 0 or sizes != {int(arrays["offsets"][-1])}:
        raise PreparedDataError(
            f"{prefix}* in {folder}: the arrays hold {sorted(sizes)} events, the offsets end at "
            f"{arrays['offsets'][-1:].tolist()}. Run the prepare stage again."
        )
    return PackedSequences(**arrays)


def _load_split(folder: Path, name: SplitName) -> EvaluationSplit:
    fields = {field: _load_array(folder, f"{name}.{field}") for field in EXAMPLE_FIELDS}
    return EvaluationSplit(name=name, extra=_load_sequences(folder, f"{name}.extra_"), **fields)


def _expand(offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every event of the chosen sequences, its row in ``index`` and its position."""
    starts = offsets[index]
    lengths = offsets[index + 1] - starts
    rows = np.repeat(np.arange(len(index)), lengths)
    first = np.cumsum(lengths) - lengths
    return rows, np.arange(len(rows)) + np.repeat(starts - first, lengths)
