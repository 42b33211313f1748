"""Held-out events beside training events and histories, identified by their row in the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.diagnostics.measurements.log_join import as_text
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class SplitOverlap:
    """What training or a history knows of events it must not know."""

    heldout_in_training: int = quantity("held-out targets among the training events")
    target_in_history: int = quantity("targets within their own history")
    target_before_history: int = quantity("targets earlier than their history")
    held_out_twice: int = quantity("events that are the target of more than one example")
    of_other_users: int = quantity("held-out events that the log gives to another user")
    val_after_test: int = quantity("users whose validation target is later than their test target")
    training_after_test: float = quantity("share of training events later than the median target")
    training_after_boundary: int = quantity("training events at or after the first target's time")
    num_targets: int = quantity("targets")
    first_leak: str = ""
    first_twice: str = ""
    first_other: str = ""


def measure(probe: Probe) -> SplitOverlap:
    """Compare rows; equal times and repeated items are no leak."""
    data = probe.data
    train_rows = np.asarray(data.train.rows)
    targets = np.concatenate([data.val.target_rows, data.test.target_rows])
    if len(targets) == 0:
        raise NotMeasuredError("held-out examples")
    if (targets < 0).all() or (len(train_rows) and (train_rows < 0).all()):
        raise NotMeasuredError("row numbers of the raw log in the prepared data")
    leaked = np.isin(targets, train_rows)
    own = early = 0
    for split in (data.val, data.test):
        known, late = _history_knows_target(data, split)
        own += known
        early += late
    times = np.asarray(data.train.times)
    target_times = np.asarray(data.test.target_times)
    middle = np.median(target_times) if len(target_times) else np.inf
    first_target = min(
        (int(t.min()) for t in (data.val.target_times, data.test.target_times) if len(t)),
        default=0,
    )
    known_rows, times_held = np.unique(targets[targets >= 0], return_counts=True)
    again = known_rows[times_held > 1]
    others = _of_other_users(probe)
    return SplitOverlap(
        heldout_in_training=int(leaked.sum()),
        target_in_history=own,
        target_before_history=early,
        held_out_twice=len(again),
        of_other_users=len(others),
        val_after_test=_validated_late(data),
        training_after_test=float((times > middle).mean()) if len(times) else 0.0,
        training_after_boundary=int((times > first_target).sum()),
        num_targets=len(targets),
        first_leak=f"row {int(targets[leaked.argmax()])} of the log" if leaked.any() else "",
        first_twice=f"row {int(again[0])} of the log" if len(again) else "",
        first_other=f"row {int(others[0])} of the log" if len(others) else "",
    )


def _of_other_users(probe: Probe) -> np.ndarray:
    """Rows of targets and of held-out history that the log gives to another user."""
    log, data = probe.subject.log, probe.data
    if log is None:
        return np.zeros(0, dtype=np.int64)
    labels, owners = as_text(probe.prepared.user_labels), as_text(log.user)
    found = []
    for split in (data.val, data.test):
        users = np.asarray(split.users)
        rows = np.concatenate([split.target_rows, split.extra.rows]).astype(np.int64)
        user = np.concatenate([users, np.repeat(users, split.extra.lengths)])
        inside = (rows >= 0) & (rows < len(log)) & (user >= 0) & (user < len(labels))
        rows, user = rows[inside], user[inside]
        found.append(rows[labels[user] != owners[rows]])
    return np.concatenate(found)


def _validated_late(data: PreparedData) -> int:
    """Count users whose validation target comes after the test target that it should prepare."""
    shared, val, test = np.intersect1d(data.val.users, data.test.users, return_indices=True)
    if len(shared) == 0:
        return 0
    late = np.asarray(data.val.target_times)[val] > np.asarray(data.test.target_times)[test]
    return int(late.sum())


def _history_knows_target(data: PreparedData, split: EvaluationSplit) -> tuple[int, int]:
    """Count targets whose row is in their history, and targets before their history's end."""
    count = len(split)
    owner = np.repeat(np.arange(count), split.extra.lengths)
    extra_rows, extra_times = np.asarray(split.extra.rows), np.asarray(split.extra.times)
    in_extra = np.zeros(count, dtype=bool)
    in_extra[owner[extra_rows == np.asarray(split.target_rows)[owner]]] = True
    latest = np.full(count, np.iinfo(np.int64).min)
    np.maximum.at(latest, owner, extra_times)
    stop = np.asarray(data.train.offsets)[np.asarray(split.users) + 1]
    start = np.asarray(data.train.offsets)[np.asarray(split.users)]
    has_training = stop > start
    last_train = (
        np.asarray(data.train.times)[np.maximum(stop - 1, 0)] if len(data.train.times) else 0
    )
    latest = np.where(has_training, np.maximum(latest, last_train), latest)
    return int(in_extra.sum()), int((np.asarray(split.target_times) < latest).sum())
