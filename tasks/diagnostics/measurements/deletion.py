"""Does anything training sees depend on held-out events? Change them and prepare again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import PreparedLog, RawLog


@dataclass(frozen=True)
class Deletion:
    """Training arrays and vocabulary after held-out items were exchanged."""

    num_changed_rows: int = quantity("held-out rows whose item was exchanged")
    changed_by_exchange: int = quantity("training arrays that differ")
    changed_by_flooding: int | None = quantity("training arrays that differ")
    unseen_ids: int | None = quantity("ids of items without a training event")
    first_changed: str = ""


def measure(probe: Probe) -> Deletion:
    """Exchange the items of the last held-out events among users, then give all the same item.

    The exchange keeps every count over the whole log, so nothing declared can follow it. Giving
    all of them one item changes those counts; training may then change only where the corpus or
    the vocabulary is declared to see the whole log.
    """
    subject, log = probe.subject, probe.subject.log
    if subject.prepare is None:
        raise NotOfferedError("prepare")
    if log is None:
        raise NotOfferedError("log")
    if subject.declared.repeats != "keep":
        raise NotApplicableError(
            "repeats are dropped by declaration, which depends on held-out rows"
        )
    rows = np.asarray(probe.data.test.target_rows)
    rows = rows[(rows >= 0) & (rows < len(log))]
    if len(rows) < 2:
        raise NotMeasuredError("two test examples with row numbers of the log")
    rng = np.random.default_rng(probe.seed)
    exchanged = log.item.copy()
    exchanged[rows] = log.item[rng.permutation(rows)]
    changed = _changed(probe.prepared, _prepare(probe, log, exchanged))
    flooded: list[str] | None = None
    said = subject.declared
    counts_held_out = said.corpus == "full" and said.min_item_events > 1
    if said.vocabulary == "train" and not counts_held_out:
        same = log.item.copy()
        same[rows] = log.item[rows[0]]
        flooded = _changed(probe.prepared, _prepare(probe, log, same))
    return Deletion(
        num_changed_rows=int((exchanged[rows] != log.item[rows]).sum()),
        changed_by_exchange=len(changed),
        changed_by_flooding=None if flooded is None else len(flooded),
        unseen_ids=_unseen(probe) if said.vocabulary == "train" else None,
        first_changed=(changed + (flooded or []) + [""])[0],
    )


def _unseen(probe: Probe) -> int:
    """Ids that no training event has: a vocabulary of training items has none."""
    return probe.data.num_items - len(np.unique(probe.data.train.items))


def _prepare(probe: Probe, log: RawLog, item: np.ndarray) -> PreparedLog:
    return probe.ask("prepare", RawLog(log.user, item, log.time, log.rating))


def _changed(before: PreparedLog, after: PreparedLog) -> list[str]:
    """Return the names of training arrays that are not identical."""
    changed = [
        f"train.{name}"
        for name in ("items", "times", "rows", "offsets")
        if not np.array_equal(
            np.asarray(getattr(before.data.train, name)),
            np.asarray(getattr(after.data.train, name)),
        )
    ]
    if not np.array_equal(before.item_labels, after.item_labels):
        changed.append("item vocabulary")
    return changed
