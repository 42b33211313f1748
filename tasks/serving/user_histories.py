"""Everything the prepared data know of a user: training, validation and test events."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path

import numpy as np

from tasks.data.integrity import PreparedDataError
from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.serving.history import NO_HISTORY, History


class UserHistories:
    """Histories by raw user id, read from the mapped arrays when asked for.

    Args:
        data: prepared data, with users.csv in its folder.
    """

    def __init__(self, data: PreparedData) -> None:
        self.data = data

    def __contains__(self, user: str) -> bool:
        return user in self._numbers

    def of(self, user: str) -> History:
        """All events of a user that the prepared data keep, held-out ones included.

        Held-out events of items outside the vocabulary are left out: no model knows them.

        Raises:
            KeyError: the prepared data have no such user.
        """
        number = self._numbers[user]
        train = self.data.train
        where = slice(int(train.offsets[number]), int(train.offsets[number + 1]))
        parts = [np.stack([train.items[where], train.times[where], train.rows[where]])]
        parts += [_held_out(split, number) for split in (self.data.val, self.data.test)]
        items, times, rows = np.concatenate(parts, axis=1)
        # The events before the test target hold the validation target once more.
        first = np.sort(np.unique(rows, return_index=True)[1])
        first = first[items[first] > 0]
        order = first[np.argsort(times[first], kind="stable")]
        return History(items[order], times[order])

    def of_anyone(self, user: str) -> History:
        """All events of a user as `of` gives them; none for a user the data do not know."""
        return self.of(user) if user in self else NO_HISTORY

    def names(self, numbers: np.ndarray) -> list[str]:
        """Raw ids of users by the number of their training sequence."""
        raw_ids = list(self._numbers)
        return [raw_ids[number] for number in numbers]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        path = self.data.folder / "users.csv"
        return read_users(path)


def read_users(path: Path) -> dict[str, int]:
    """Read users.csv: raw id -> number of the training sequence.

    Raises:
        PreparedDataError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["raw_id"]: int(row["user_id"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise PreparedDataError(
            f"{path} can't be used ({error!r}). Run the prepare stage again."
        ) from None


def _held_out(split: EvaluationSplit, user: int) -> np.ndarray:
    """Items, times and rows (3, E) of a user's events in a split, target last."""
    at = int(np.searchsorted(split.users, user))
    if at == len(split) or split.users[at] != user:
        return np.empty((3, 0), dtype=np.int64)
    where = slice(int(split.extra.offsets[at]), int(split.extra.offsets[at + 1]))
    extra = np.stack([split.extra.items[where], split.extra.times[where], split.extra.rows[where]])
    target = [[split.targets[at]], [split.target_times[at]], [split.target_rows[at]]]
    return np.concatenate([extra, np.array(target, dtype=np.int64)], axis=1)
