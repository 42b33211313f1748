"""Every training window beside the sequence it was cut from: inputs, targets, coverage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tasks.data.prepared import PackedSequences, PreparedData
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch


@dataclass(frozen=True)
class WindowMatch:
    """How the rows handed to the model relate to the prepared training sequences."""

    num_rows: int = quantity("rows")
    num_targets: int = quantity("targets")
    foreign_rows: int = quantity("rows that are no part of any training sequence")
    leaking_rows: int = quantity("rows that hold held-out events of their user")
    wrong_targets: int = quantity("targets that are not the next event")
    targets_equal_input: int = quantity("targets equal to their own input")
    targets_beyond_training: int = quantity("targets after the end of the training sequence")
    first_foreign: str = ""
    first_leak: str = ""
    first_wrong: str = ""
    pairs: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(input, target) pairs found, as often as they were: places in the flat training items."""


class _Sequences:
    """Finds where a run of items stands in the sequences of some users."""

    def __init__(self, train: PackedSequences) -> None:
        self.offsets = np.asarray(train.offsets, dtype=np.int64)
        self.items = np.asarray(train.items, dtype=np.int64)
        # Id 0 never occurs inside a sequence, so no match crosses a border.
        owner = np.repeat(np.arange(len(train)), train.lengths)
        self.joined = np.zeros(len(self.items) + len(train) + 1, dtype=np.int64)
        self.joined[np.arange(len(self.items)) + owner + 1] = self.items
        self.text = self.joined.tobytes()

    def places(self, joined: np.ndarray) -> np.ndarray:
        """Turn positions in `joined` into places in the flat items: one border less per owner."""
        borders = self.offsets[:-1] + np.arange(len(self.offsets) - 1)
        return joined - np.searchsorted(borders, joined, side="left")

    def find(self, run: np.ndarray, user: int | None) -> list[int]:
        """Return positions in `joined` where `run` starts, at most 50."""
        start, stop = 0, len(self.text)
        if user is not None and 0 <= user < len(self.offsets) - 1:
            start = 8 * int(self.offsets[user] + user)
            stop = 8 * int(self.offsets[user + 1] + user + 2)
        elif user is not None:
            return []
        pattern, found = run.astype(np.int64).tobytes(), []
        at = self.text.find(pattern, start, stop)
        while at >= 0 and len(found) < 50:
            if at % 8 == 0:
                found.append(at // 8)
            at = self.text.find(pattern, at + 1, stop)
        return found


def measure(probe: Probe) -> WindowMatch:
    """Look every row up, then compare each target with the event that follows its input."""
    if probe.subject.declared.task != "next_item":
        raise NotApplicableError("targets are items to restore, by declaration, not next events")
    sequences = _Sequences(probe.data.train)
    whole = _Sequences(with_held_out(probe.data))
    names = ("rows", "targets", "foreign", "leaking", "wrong", "same", "beyond")
    counts = dict.fromkeys(names, 0)
    first_foreign = first_leak = first_wrong = ""
    pairs: list[np.ndarray] = []
    for number, batch in enumerate(probe.all_batches):
        for row in range(len(batch.item_ids)):
            items, targets, asked = _row(batch, row)
            if len(items) == 0:
                continue
            place = f"batch {number}, row {row}"
            user = None if batch.users is None else int(batch.users[row])
            starts = sequences.find(items, user)
            counts["rows"] += 1
            counts["targets"] += int(asked.sum())
            counts["same"] += int((targets == items)[asked].sum())
            if not starts:
                leaks = bool(whole.find(items, user))
                counts["leaking" if leaks else "foreign"] += 1
                first_leak = first_leak or (place if leaks else "")
                first_foreign = first_foreign or ("" if leaks else place)
            expected, start = _expected(sequences, starts, items, targets, asked)
            wrong = asked & (targets != expected)
            counts["wrong"] += int(wrong.sum())
            counts["beyond"] += int((asked & (expected == 0)).sum()) if starts else 0
            if wrong.any() and not first_wrong:
                first_wrong = f"{place}, position {int(wrong.argmax())}"
            if starts:
                pairs.append(start + np.flatnonzero(asked & ~wrong))
    return WindowMatch(
        num_rows=counts["rows"],
        num_targets=counts["targets"],
        foreign_rows=counts["foreign"],
        leaking_rows=counts["leaking"],
        wrong_targets=counts["wrong"],
        targets_equal_input=counts["same"],
        targets_beyond_training=counts["beyond"],
        first_foreign=first_foreign,
        first_leak=first_leak,
        first_wrong=first_wrong,
        pairs=sequences.places(np.concatenate(pairs)) if pairs else np.zeros(0, dtype=np.int64),
    )


def with_held_out(data: PreparedData) -> PackedSequences:
    """Return each user's training events followed by the held-out ones, by place in the log."""
    train, test = data.train, data.test
    owner = [np.repeat(np.arange(len(train)), train.lengths)]
    items, rows = [np.asarray(train.items)], [np.asarray(train.rows)]
    for split in (data.val, test):
        users = np.asarray(split.users)
        owner += [np.repeat(users, split.extra.lengths), users]
        items += [np.asarray(split.extra.items), np.asarray(split.targets)]
        rows += [np.asarray(split.extra.rows), np.asarray(split.target_rows)]
    place = np.concatenate([np.full(len(part), number) for number, part in enumerate(owner)])
    owner, items, rows = np.concatenate(owner), np.concatenate(items), np.concatenate(rows)
    # The validation event is held out once and part of the test history: the later place counts.
    first = np.unique(rows[::-1], return_index=True)[1] if (rows >= 0).all() else None
    kept = np.arange(len(rows)) if first is None else np.sort(len(rows) - 1 - first)
    order = kept[np.lexsort((kept, place[kept], owner[kept]))]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[order], minlength=len(train)))])
    return PackedSequences(items[order], rows[order], rows[order], offsets)


def _row(batch: Batch, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    real = batch.mask[row].cpu().numpy().astype(bool)
    items = batch.item_ids[row].cpu().numpy()[real]
    targets = batch.targets[row].cpu().numpy()[real]
    return items.astype(np.int64), targets.astype(np.int64), targets > 0


def _expected(
    sequences: _Sequences,
    starts: list[int],
    items: np.ndarray,
    targets: np.ndarray,
    asked: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Return the next event of each position (0 = none) where the targets fit best.

    A window that is not found at all can still be judged by itself: every target but the last
    should be the next input.
    """
    if not starts:
        return np.append(items[1:], targets[-1]), 0
    candidates = [sequences.joined[s + 1 : s + 1 + len(items)] for s in starts]
    misses = [int((asked & (targets != candidate)).sum()) for candidate in candidates]
    best = int(np.argmin(misses))
    return candidates[best], starts[best]
