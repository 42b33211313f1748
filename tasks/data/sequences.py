"""Packs ordered, encoded events into the arrays that lie on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tasks.data.events import Events, count_codes
from tasks.data.splits import Examples

Arrays = dict[str, np.ndarray]
"""File name without ``.npy`` -> array."""


def pack_sequences(prefix: str, events: Events, owners: np.ndarray, num_sequences: int) -> Arrays:
    """Lay events end to end, one sequence per owner.

    Args:
        prefix: Beginning of the array names.
        events: N events whose ``items`` are encoded ids of at least 1, grouped by owner.
        owners: (N,) int, sequence of each event, ascending.
        num_sequences: Number of sequences, empty ones included.

    Returns:
        ``items`` int32, ``times`` int64, ``rows`` int64 and ``offsets`` (num_sequences + 1,) int64.
    """
    offsets = np.zeros(num_sequences + 1, dtype=np.int64)
    np.cumsum(count_codes(owners, num_sequences), out=offsets[1:])
    return {
        f"{prefix}items": np.ascontiguousarray(events.items, dtype=np.int32),
        f"{prefix}times": np.ascontiguousarray(events.times, dtype=np.int64),
        f"{prefix}rows": np.ascontiguousarray(events.rows, dtype=np.int64),
        f"{prefix}offsets": offsets,
    }


def pack_examples(name: str, events: Events, examples: Examples) -> Arrays:
    """Pack held-out targets and the events between training and target.

    Args:
        name: ``val`` or ``test``.
        events: All ordered events with encoded users and items; -1 marks an item without an id.
            Such events are left out of the history, for no model knows the item.
        examples: Positions in ``events``.
    """
    owners, positions = expand_ranges(examples.starts, examples.targets)
    known = events.items[positions] > 0
    extra = events.take(positions[known])
    return {
        f"{name}.users": events.users[examples.targets].astype(np.int64),
        f"{name}.targets": events.items[examples.targets].astype(np.int64),
        f"{name}.target_times": events.times[examples.targets],
        f"{name}.target_rows": events.rows[examples.targets],
        **pack_sequences(f"{name}.extra_", extra, owners[known], len(examples)),
    }


def expand_ranges(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the range number and the position of everything in ``starts:stops``.

    >>> owners, positions = expand_ranges(np.array([5, 9]), np.array([7, 10]))
    >>> owners.tolist(), positions.tolist()
    ([0, 0, 1], [5, 6, 9])
    """
    lengths = stops - starts
    owners = np.repeat(np.arange(len(starts)), lengths)
    first = np.cumsum(lengths) - lengths
    return owners, np.arange(len(owners)) + np.repeat(starts - first, lengths)


def save_arrays(folder: Path, arrays: Arrays) -> None:
    """Write every array as ``NAME.npy`` (format 1.0, little-endian, no pickle)."""
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)


class _HashingStream:
    """Takes bytes as a file does and keeps only their SHA-256."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Take the next bytes of the file."""
        self.digest.update(data)
        return len(data)


def hash_array(array: np.ndarray) -> str:
    """Return the SHA-256 of the file ``save_arrays`` would write for ``array``."""
    stream = _HashingStream()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.digest.hexdigest()
