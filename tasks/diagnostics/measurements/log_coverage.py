"""Is every event of the log, but for declared filters, in training or held out?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.declared import Declared
from tasks.diagnostics.measurements.log_join import as_text
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import RawLog


@dataclass(frozen=True)
class LogCoverage:
    """Events that went missing between the log and the sequences."""

    num_expected: int = quantity("events the declared filters keep")
    lost_events: int = quantity("of them in neither training nor a held-out part")
    lost_users: int = quantity("users who lost events")
    kept_undeclared: int = quantity("training events that declared filters drop")
    first_lost: str = ""


def measure(probe: Probe) -> LogCoverage:
    """Apply the declared filters to the raw log independently, and look for every row left."""
    log, said = probe.subject.log, probe.subject.declared
    if log is None:
        raise NotOfferedError("log")
    _require_known(said)
    data = probe.data
    train_rows = np.asarray(data.train.rows)
    if len(train_rows) == 0 or (train_rows < 0).all():
        raise NotMeasuredError("row numbers of the raw log in the prepared sequences")
    kept = expected_rows(log, said)
    if said.split == "temporal":
        # Held-out periods drop events by rules of their own; training keeps all before them.
        wanted = kept & (log.time < np.asarray(data.train.times).max())
    else:
        wanted = kept & np.isin(as_text(log.item), as_text(probe.prepared.item_labels[1:]))
    held_out = (data.val, data.test)
    used = np.concatenate(
        [train_rows, *(s.target_rows for s in held_out), *(s.extra.rows for s in held_out)]
    )
    lost = np.setdiff1d(np.flatnonzero(wanted), used)
    inside = train_rows[(train_rows >= 0) & (train_rows < len(log))]
    return LogCoverage(
        num_expected=int(wanted.sum()),
        lost_events=len(lost),
        lost_users=len(np.unique(log.user[lost])),
        kept_undeclared=int((~kept[inside]).sum()),
        first_lost=f"row {lost[0]} of the log, user {log.user[lost[0]]}" if len(lost) else "",
    )


def _require_known(said: Declared) -> None:
    if said.repeats != "keep" or said.duplicates != "keep":
        raise NotApplicableError("repeats or duplicates are dropped by declaration")
    if said.corpus == "train" and max(said.min_user_events, said.min_item_events) > 1:
        raise NotApplicableError("the corpus filters are declared to count training events alone")


def expected_rows(log: RawLog, said: Declared) -> np.ndarray:
    """Return which rows the declared rating threshold and k-core keep, bool (N,)."""
    kept = as_text(log.user) != ""
    if log.rating is not None:
        kept &= ~(log.rating < said.rating_threshold)
    if said.corpus == "train":
        return kept
    user = np.unique(log.user, return_inverse=True)[1]
    item = np.unique(log.item, return_inverse=True)[1]
    while True:
        users = np.bincount(user[kept], minlength=user.max() + 1)
        items = np.bincount(item[kept], minlength=item.max() + 1)
        still = kept & (users[user] >= said.min_user_events) & (items[item] >= said.min_item_events)
        if still.sum() == kept.sum():
            return kept
        kept = still
