"""Leakage checks: does anything held out reach training or a history?

An event is its row in the log, so an item bought twice and events with equal times are no leak. An
exact check is an identity that correct data satisfy on every log; one that fails stops the
pipeline. A measurement is reported with its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from tasks.data.encoding import Vocabulary
from tasks.data.events import Events, chunks
from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.data.recipe import Recipe
from tasks.data.sequences import Arrays, hash_array


class LeakageError(ValueError):
    """An exact leakage check failed."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        id: Name of the check.
        exact: True for an identity that must hold, false for a measurement.
        passed: Whether the identity holds; a measurement passes unless it calls for a warning.
        message: The finding in a sentence, naming a user and a row where something is wrong.
        numbers: What was counted.
    """

    id: str
    exact: bool
    passed: bool
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Return the fields as plain values."""
        return asdict(self)


def enforce(results: Iterable[CheckResult]) -> None:
    """Stop when an exact check failed.

    Raises:
        LeakageError: Lists every failed exact check.
    """
    failed = [result for result in results if result.exact and not result.passed]
    if failed:
        problems = "\n".join(f"  - {result.id}: {result.message}" for result in failed)
        raise LeakageError(
            f"{len(failed)} leakage check{'s' if len(failed) > 1 else ''} failed; nothing was "
            f"written.\n{problems}\nThe preparation itself is at fault: undo the last change to "
            "it, or report the log and the settings that show this."
        )


def check_rows_apart(data: PreparedData, users: Vocabulary) -> CheckResult:
    """Check that no event is in two places.

    Training rows are distinct; no target and no held-out history is a training row; no event is
    a target twice; no history holds its own target or a test target; a user has at most one
    example per split.
    """
    name, train, val, test = "rows_apart", data.train, data.val, data.test
    targets = np.concatenate([val.target_rows, test.target_rows])
    overlaps = (
        ("training rows occur twice", _repeated(train.rows)),
        ("target rows occur twice", _repeated(targets)),
        ("target rows are training rows", _common(targets, train.rows)),
        ("validation history rows are training rows", _common(val.extra.rows, train.rows)),
        ("test history rows are training rows", _common(test.extra.rows, train.rows)),
        ("target rows are validation history", _common(targets, val.extra.rows)),
        ("test target rows are test history", _common(test.target_rows, test.extra.rows)),
    )
    for what, rows in overlaps:
        if len(rows):
            where = _name_row(data, users, int(rows[0]))
            return CheckResult(name, True, False, f"{len(rows)} {what}; the first: {where}.")
    for split in (val, test):
        if (np.diff(split.users) <= 0).any():
            at = int(np.argmax(np.diff(split.users) <= 0)) + 1
            user = users.decode(split.users[at : at + 1])[0]
            message = f"user {user!r} has two {split.name} examples, or examples are not sorted."
            return CheckResult(name, True, False, message)
    numbers = {"training_rows": len(train.rows), "target_rows": len(targets)}
    return CheckResult(name, True, True, "no event is in two places.", numbers)


def check_order(data: PreparedData, users: Vocabulary) -> CheckResult:
    """Check that histories ascend by (time, row) and every target comes after its history."""
    name = "target_after_history"
    sequences = [("training", data.train, np.arange(len(data.train)))]
    sequences += [(f"{s.name} history", s.extra, s.users) for s in (data.val, data.test)]
    for what, packed, owners in sequences:
        at = _first_descent(packed)
        if at is not None:
            owner = owners[np.searchsorted(packed.offsets, at, side="right") - 1]
            message = (
                f"{what} of user {users.decode([owner])[0]!r} goes back in (time, row) at row "
                f"{int(packed.rows[at])}."
            )
            return CheckResult(name, True, False, message)
    for split in (data.val, data.test):
        for what, late in _late_history(data, split):
            if late.any():
                at = int(np.argmax(late))
                message = (
                    f"{int(late.sum())} {split.name} {what}; the first: user "
                    f"{users.decode(split.users[at : at + 1])[0]!r}, target row "
                    f"{int(split.target_rows[at])}."
                )
                return CheckResult(name, True, False, message)
    numbers = {"targets": len(data.val) + len(data.test)}
    return CheckResult(name, True, True, "every target comes after its history.", numbers)


def check_log_identity(data: PreparedData, log: Events, users: Vocabulary) -> CheckResult:
    """Check that every prepared event has the user, item and time its row has in the log.

    Args:
        data: Prepared data.
        log: The valid log, rows ascending, encoded with the saved vocabularies.
        users: User vocabulary.
    """
    name, compared = "events_match_log", 0
    table = np.zeros(int(log.rows.max(initial=0)) + 1, dtype=np.int32)
    for part in chunks(len(log)):
        table[log.rows[part]] = np.arange(part.start, part.stop, dtype=np.int32)
    parts = [(data.train.rows, data.train.items, data.train.times, _owners(data.train))]
    for split in (data.val, data.test):
        parts.append((split.target_rows, split.targets, split.target_times, split.users))
        owners = split.users[_owners(split.extra)]
        parts.append((split.extra.rows, split.extra.items, split.extra.times, owners))
    for rows, items, times, owners in parts:
        same = np.ones(len(rows), dtype=bool)
        for part in chunks(len(rows)):
            at = table[np.clip(rows[part], 0, len(table) - 1)]
            same[part] = (log.rows[at] == rows[part]) & (log.users[at] == owners[part])
            same[part] &= (log.items[at] == items[part]) & (log.times[at] == times[part])
        if not same.all():
            first = int(np.argmin(same))
            message = (
                f"{int(np.count_nonzero(~same))} events differ from the log in user, item or "
                f"time; the first: user {users.decode([owners[first]])[0]!r}, row "
                f"{int(rows[first])}."
            )
            return CheckResult(name, True, False, message)
        compared += len(rows)
    return CheckResult(
        name, True, True, "every event matches its row in the log.", {"events": compared}
    )


def check_declared_scope(data: PreparedData, items: Vocabulary, recipe: Recipe) -> CheckResult:
    """Check that what is declared to see training rows only could be computed from them."""
    name, counts = "declared_scope", data.item_counts
    unseen = np.flatnonzero(counts[1:] == 0) + 1
    numbers = {"items_without_training_event": len(unseen)}
    if recipe.vocabulary == "train" and len(unseen):
        message = (
            f"the vocabulary is declared to come from training rows, yet {len(unseen)} of its "
            f"items have no training event; the first: {items.decode(unseen[:1])[0]!r}."
        )
        return CheckResult(name, True, False, message, numbers)
    if recipe.corpus == "train":
        lengths = data.train.lengths
        short = int(np.count_nonzero((lengths > 0) & (lengths < recipe.min_user_events)))
        rare = int(np.count_nonzero((counts[1:] > 0) & (counts[1:] < recipe.min_item_events)))
        if short or rare:
            message = (
                f"the k-core is declared to count training rows, yet {short} users and {rare} "
                "items have fewer training events than it demands."
            )
            return CheckResult(name, True, False, message, numbers)
    label = "the convention of the literature" if recipe.corpus == "full" else "no held-out row"
    message = f"corpus: {recipe.corpus} ({label}), vocabulary: {recipe.vocabulary}; as declared."
    return CheckResult(name, True, True, message, numbers)


def check_deletion(file_hashes: dict[str, str], rebuilt: Arrays) -> CheckResult:
    """Check that training files do not change when every held-out row is deleted from the log.

    Args:
        file_hashes: SHA-256 by file name, of the files on disk.
        rebuilt: Training arrays made without held-out rows.
    """
    changed = [n for n, array in rebuilt.items() if file_hashes[f"{n}.npy"] != hash_array(array)]
    numbers = {"files": len(rebuilt), "changed": len(changed)}
    if changed:
        message = (
            f"{', '.join(f'{n}.npy' for n in changed)} change when held-out rows are deleted "
            "from the log: something in them was computed from held-out rows."
        )
        return CheckResult("deletion", True, False, message, numbers)
    message = "training files are byte-identical without the held-out rows."
    return CheckResult("deletion", True, True, message, numbers)


def _repeated(rows: np.ndarray) -> np.ndarray:
    ordered = np.sort(rows)
    return ordered[1:][ordered[1:] == ordered[:-1]]


def _common(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return rows[np.isin(rows, others)]


def _owners(packed: PackedSequences) -> np.ndarray:
    return np.repeat(np.arange(len(packed), dtype=np.int32), packed.lengths)


def _name_row(data: PreparedData, users: Vocabulary, row: int) -> str:
    """Return the user and the row, wherever the row is held."""
    for packed, owners in (
        (data.train, np.arange(len(data.train))),
        (data.val.extra, data.val.users),
        (data.test.extra, data.test.users),
    ):
        at = np.flatnonzero(packed.rows == row)
        if len(at):
            owner = owners[np.searchsorted(packed.offsets, at[0], side="right") - 1]
            return f"user {users.decode([owner])[0]!r}, row {row}"
    for split in (data.val, data.test):
        at = np.flatnonzero(split.target_rows == row)
        if len(at):
            return f"user {users.decode(split.users[at[:1]])[0]!r}, row {row}"
    return f"row {row}"


def _first_descent(packed: PackedSequences) -> int | None:
    """Return the first event that does not come after the one before it in its sequence."""
    later = packed.times[1:] > packed.times[:-1]
    later |= (packed.times[1:] == packed.times[:-1]) & (packed.rows[1:] > packed.rows[:-1])
    starts = packed.offsets[1:-1]
    later[starts[(starts > 0) & (starts < len(packed.rows))] - 1] = True
    return None if later.all() else int(np.argmin(later)) + 1


def _late_history(data: PreparedData, split: EvaluationSplit) -> list[tuple[str, np.ndarray]]:
    """Return per example whether a part of its history ends at or after what must follow it."""
    train_start, train_stop = data.train.offsets[split.users], data.train.offsets[split.users + 1]
    extra_start, extra_stop = split.extra.offsets[:-1], split.extra.offsets[1:]
    training = _events_at(data.train, train_stop - 1, train_stop > train_start, missing=-1)
    last_extra = _events_at(split.extra, extra_stop - 1, extra_stop > extra_start, missing=-1)
    never = np.iinfo(np.int64).max
    first_extra = _events_at(split.extra, extra_start, extra_stop > extra_start, missing=never)
    target = (split.target_times, split.target_rows)
    return [
        ("targets are not after training", _is_late(training, target)),
        ("targets are not after their history", _is_late(last_extra, target)),
        ("held-out histories begin within training", _is_late(training, first_extra)),
    ]


def _events_at(
    packed: PackedSequences, at: np.ndarray, exists: np.ndarray, missing: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return times and rows at positions, ``missing`` where there is no event."""
    times, rows = np.full((2, len(at)), missing, dtype=np.int64)
    times[exists], rows[exists] = packed.times[at[exists]], packed.rows[at[exists]]
    return times, rows


def _is_late(
    earlier: tuple[np.ndarray, np.ndarray], later: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return where ``earlier`` (times, rows) does not come before ``later``."""
    return (earlier[0] > later[0]) | ((earlier[0] == later[0]) & (earlier[1] >= later[1]))
