from __future__ import annotations

import numpy as np
import pytest

from tasks.data.splits import (
    ROLES,
    TEST,
    TRAIN,
    VAL,
    SplitError,
    assign_roles,
    leave_one_out_periods,
    quantile_boundaries,
    temporal_periods,
)

LOO_CASES = [
    ([], []),
    ([0], [TRAIN]),
    ([0, 0], [TRAIN, TRAIN]),
    ([0, 0, 0], [TRAIN, VAL, TEST]),
    ([0, 0, 1, 1, 1, 1], [TRAIN, TRAIN, TRAIN, TRAIN, VAL, TEST]),
    ([2, 2, 2, 5], [TRAIN, VAL, TEST, TRAIN]),
]


@pytest.mark.parametrize(("users", "expected"), LOO_CASES)
def test_leave_one_out_hand_computed(users: list[int], expected: list[int]) -> None:
    assert leave_one_out_periods(np.array(users, dtype=np.int32)).tolist() == expected


def test_temporal_keeps_equal_times_together() -> None:
    times = np.array([5, 1, 3, 3, 9, 5])
    assert temporal_periods(times, 3, 9).tolist() == [VAL, TRAIN, VAL, VAL, TEST, VAL]


@pytest.mark.parametrize(
    ("times", "starts", "problem"),
    [
        ([1, 2, 3], (3, 3), "validation first"),
        ([1, 2, 3], (1, 3), "training period is empty"),
        ([1, 5, 9], (2, 3), "validation period is empty"),
        ([1, 2, 3], (2, 9), "test period is empty"),
    ],
)
def test_temporal_refuses_empty_periods(times, starts, problem: str) -> None:
    with pytest.raises(SplitError, match=problem):
        temporal_periods(np.array(times), *starts)


def test_quantile_boundaries_are_times_of_events() -> None:
    times = np.array([50, 10, 40, 20, 30])
    assert quantile_boundaries(times, 0.4, 0.8) == (30, 50)
    assert quantile_boundaries(times, 0.99, 0.999) == (50, 50)
    huge = np.array([2**62 + k for k in range(4)])
    assert quantile_boundaries(huge, 0.25, 0.5) == (2**62 + 1, 2**62 + 2)


def _roles(split) -> list[str]:
    return [ROLES[role] for role in split.roles]


# One user, two training events, then v1 v2 in validation and t1 t2 in test; a cold user after.
USERS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
PERIODS = np.array([TRAIN, TRAIN, VAL, VAL, TEST, TEST, VAL, TEST, TEST], dtype=np.int8)
ALL = np.ones(9, dtype=bool)


def test_first_targets() -> None:
    split = assign_roles(USERS, PERIODS, ALL, target="first")
    assert (split.val.targets.tolist(), split.val.starts.tolist()) == ([2], [2])
    assert (split.test.targets.tolist(), split.test.starts.tolist()) == ([4], [2])
    assert _roles(split) == [
        "train", "train", "val_target", "context", "test_target", "after_target",
        "cold_user", "cold_user", "cold_user",
    ]  # fmt: skip


def test_last_targets() -> None:
    split = assign_roles(USERS, PERIODS, ALL, target="last")
    assert _roles(split)[:6] == [
        "train", "train", "context", "val_target", "context", "test_target",
    ]  # fmt: skip


def test_cold_users_are_kept_once_they_have_a_history() -> None:
    split = assign_roles(USERS, PERIODS, ALL, target="first", cold_users="keep")
    assert split.val.targets.tolist() == [2]
    assert split.test.targets.tolist() == [4, 7]
    assert split.test.starts.tolist() == [2, 6]
    assert _roles(split)[6:] == ["context", "test_target", "after_target"]


def test_a_cold_user_without_any_history_is_dropped_for_that_reason() -> None:
    users, periods = np.array([0, 0, 0, 1]), np.array([TRAIN, VAL, TEST, TEST], dtype=np.int8)
    split = assign_roles(users, periods, np.ones(4, dtype=bool), cold_users="keep")
    assert split.test.targets.tolist() == [2]
    assert _roles(split)[3] == "no_history"


def test_a_cold_user_needs_a_history_of_known_items() -> None:
    known = ALL.copy()
    known[6] = False
    split = assign_roles(USERS, PERIODS, known, target="first", cold_users="keep")
    assert split.test.targets.tolist() == [4]
    assert _roles(split)[6:] == ["cold_item", "no_history", "after_target"]


@pytest.mark.parametrize(("cold_targets", "expected"), [("miss", [4]), ("drop", [])])
def test_targets_without_an_id(cold_targets: str, expected: list[int]) -> None:
    known = ALL.copy()
    known[[3, 4]] = False
    split = assign_roles(USERS, PERIODS, known, target="first", cold_targets=cold_targets)
    assert split.test.targets.tolist() == expected
    assert _roles(split)[3] == "cold_item"
    assert _roles(split)[4] == ("test_target" if expected else "cold_item")


def test_no_events_give_no_examples() -> None:
    nothing = np.zeros(0, dtype=np.int8)
    split = assign_roles(nothing, nothing, nothing.astype(bool))
    assert (len(split.val), len(split.test), len(split.roles)) == (0, 0, 0)
