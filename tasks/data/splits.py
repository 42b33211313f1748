"""Splits: which events train, which are targets, which are history of a target.

A split first gives every event a period (training, validation, test), never going back within a
user, then picks at most one target per user and held-out period. Everything held out before the
target is history of the example too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from tasks.data.events import count_codes

TRAIN, VAL, TEST = 0, 1, 2
"""Periods of an event."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MIN_LEAVE_ONE_OUT_EVENTS = 3
"""One event to learn from, one to validate on, one to test on."""

TargetChoice = Literal["first", "last"]
ColdTargets = Literal["miss", "drop"]
ColdUsers = Literal["drop", "keep"]

ROLES = (
    "train",
    "val_target",
    "test_target",
    "context",
    "cold_user",
    "cold_item",
    "no_history",
    "after_target",
)
"""What becomes of an event; the last four are dropped, for the reason their name gives."""


class SplitError(ValueError):
    """The log can't be split as asked."""


@dataclass(frozen=True)
class Examples:
    """Held-out examples as positions in the ordered events.

    Attributes:
        targets: (E,) int64, the event to predict, ascending.
        starts: (E,) int64, the user's first held-out event; ``starts:targets`` is the history
            after training.
    """

    targets: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def take(self, mask: np.ndarray) -> Examples:
        """Return the examples a boolean mask selects."""
        return Examples(self.targets[mask], self.starts[mask])


@dataclass(frozen=True)
class Split:
    """The outcome of a split.

    Attributes:
        periods: (N,) int8, period per event.
        val: Validation examples.
        test: Test examples.
        roles: (N,) int8, index into ``ROLES`` per event: every event has exactly one.
    """

    periods: np.ndarray
    val: Examples
    test: Examples
    roles: np.ndarray


def format_time(microseconds: int) -> str:
    """Return a time since the epoch as ISO 8601 in UTC.

    >>> format_time(1_500_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    return (EPOCH + timedelta(microseconds=int(microseconds))).isoformat()


def leave_one_out_periods(users: np.ndarray) -> np.ndarray:
    """Return periods that hold out each user's last event for test, the one before for validation.

    Users with fewer than three events train only.

    Args:
        users: (N,) int, non-negative, grouped: events ordered by user, then time.

    Returns:
        (N,) int8.

    >>> leave_one_out_periods(np.array([0, 0, 0, 0, 1, 1])).tolist()
    [0, 0, 1, 2, 0, 0]
    """
    counts = count_codes(users, int(users.max(initial=-1)) + 1)
    last = (np.cumsum(counts) - 1)[counts >= MIN_LEAVE_ONE_OUT_EVENTS]
    periods = np.full(len(users), TRAIN, dtype=np.int8)
    periods[last - 1] = VAL
    periods[last] = TEST
    return periods


def temporal_periods(times: np.ndarray, val_start: int, test_start: int) -> np.ndarray:
    """Return periods by two points in time, the same for all users.

    Args:
        times: (N,) int64, microseconds.
        val_start: Validation starts here: training is strictly earlier.
        test_start: The test period starts here: validation is strictly earlier.

    Returns:
        (N,) int8. Equal times never fall on both sides.

    Raises:
        SplitError: The boundaries are out of order, or a period is empty.

    >>> temporal_periods(np.array([1, 2, 2, 3]), 2, 3).tolist()
    [0, 1, 1, 2]
    """
    if not val_start < test_start:
        raise SplitError(
            f"validation starts at {format_time(val_start)} and test at "
            f"{format_time(test_start)}; expected validation first. Set data.val_quantile and "
            "data.test_quantile further apart, or data.val_start earlier."
        )
    periods = (times >= val_start).astype(np.int8) + (times >= test_start).astype(np.int8)
    counts = np.bincount(periods, minlength=3)
    for period, name in enumerate(("training", "validation", "test")):
        if not counts[period]:
            raise SplitError(
                f"the {name} period is empty: events run from {format_time(times.min())} to "
                f"{format_time(times.max())}, validation starts at {format_time(val_start)}, test "
                f"at {format_time(test_start)}. Move the boundaries, or use data.split: "
                "leave_one_out."
            )
    return periods


def quantile_boundaries(times: np.ndarray, val: float, test: float) -> tuple[int, int]:
    """Return the times below which the shares ``val`` and ``test`` of all events lie.

    The value is the time of an event (no interpolation), so microseconds stay exact.

    >>> quantile_boundaries(np.arange(10) * 100, 0.8, 0.9)
    (800, 900)
    """
    last = len(times) - 1
    at = [min(int(share * len(times)), last) for share in (val, test)]
    ordered = np.partition(times, at)
    return int(ordered[at[0]]), int(ordered[at[1]])


def assign_roles(
    users: np.ndarray,
    periods: np.ndarray,
    has_id: np.ndarray,
    *,
    target: TargetChoice = "last",
    cold_targets: ColdTargets = "miss",
    cold_users: ColdUsers = "drop",
) -> Split:
    """Choose targets and give every event its role.

    Args:
        users: (N,) int, non-negative, events ordered by user, then time, then row.
        periods: (N,) int8, not decreasing within a user.
        has_id: (N,) bool, whether the item is in the vocabulary; true for training events.
        target: Which event of a user's held-out period to predict.
        cold_targets: A target without an id stays as a ``miss``, or its example is dropped.
        cold_users: Users without a training event are dropped, or kept where held-out events
            give them a history.
    """
    training = periods == TRAIN
    num_users = int(users.max(initial=-1)) + 1
    train_counts = count_codes(users, num_users, training)
    all_counts = count_codes(users, num_users)
    starts = np.cumsum(all_counts) - all_counts + train_counts
    roles = np.full(len(users), ROLES.index("after_target"), dtype=np.int8)
    examples = {}
    for period in (VAL, TEST):
        positions = _pick(users, periods == period, target)
        chosen = Examples(positions, starts[users[positions]])
        warm = train_counts[users[positions]] > 0
        if cold_users == "drop":
            chosen = chosen.take(warm)
        else:
            known_before = np.concatenate([[0], np.cumsum(has_id & ~training)])
            history = known_before[chosen.targets] - known_before[chosen.starts]
            roles[chosen.targets[~warm & (history == 0)]] = ROLES.index("no_history")
            chosen = chosen.take(warm | (history > 0))
        if cold_targets == "drop":
            chosen = chosen.take(has_id[chosen.targets])
        examples[period] = chosen
    split = Split(periods, examples[VAL], examples[TEST], roles)
    _fill_roles(split, users, train_counts, has_id, cold_users)
    return split


def _pick(users: np.ndarray, held_out: np.ndarray, target: TargetChoice) -> np.ndarray:
    """Return the first or last held-out position of every user that has one."""
    positions = np.flatnonzero(held_out)
    changes = users[positions][1:] != users[positions][:-1]
    edge = np.append(True, changes) if target == "first" else np.append(changes, True)
    return positions[edge[: len(positions)]]


def _fill_roles(
    split: Split,
    users: np.ndarray,
    train_counts: np.ndarray,
    has_id: np.ndarray,
    cold_users: ColdUsers,
) -> None:
    """Write the roles, the weakest claim first: a target outranks being history of another."""
    roles, held_out = split.roles, split.periods != TRAIN
    depth = np.zeros(len(users) + 1, dtype=np.int32)
    for examples in (split.val, split.test):
        np.add.at(depth, examples.starts, 1)
        np.add.at(depth, examples.targets, -1)
    roles[np.cumsum(depth[:-1], dtype=np.int32) > 0] = ROLES.index("context")
    roles[held_out & ~has_id] = ROLES.index("cold_item")
    if cold_users == "drop":
        roles[held_out & (train_counts == 0)[users]] = ROLES.index("cold_user")
    roles[split.val.targets] = ROLES.index("val_target")
    roles[split.test.targets] = ROLES.index("test_target")
    roles[~held_out] = ROLES.index("train")
