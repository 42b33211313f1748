"""Does the same log come out prepared the same a second time?"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import PreparedLog


@dataclass(frozen=True)
class RepeatedPreparation:
    """Arrays of two preparations of one log."""

    different: int = quantity("arrays that differ when the same log is prepared again")
    first_different: str = ""


def measure(probe: Probe) -> RepeatedPreparation:
    """Prepare the log twice more, all global seeds set alike, and compare everything.

    The prepared log in hand may have been made by another process; two that are made here compare
    the code with itself.
    """
    subject = probe.subject
    if subject.prepare is None:
        raise NotOfferedError("prepare")
    if subject.log is None:
        raise NotOfferedError("log")
    if len(subject.log) > MOST_EVENTS:
        raise NotMeasuredError(f"a log of at most {MOST_EVENTS} events, to prepare it twice more")
    first, second = _arrays(_prepared(probe)), _arrays(_prepared(probe))
    different = [name for name, a in first.items() if not np.array_equal(a, second[name])]
    return RepeatedPreparation(len(different), different[0] if different else "")


MOST_EVENTS = 5_000_000
"""Events of a log that are prepared in seconds."""


def _prepared(probe: Probe) -> PreparedLog:
    random.seed(probe.seed)
    np.random.seed(probe.seed)
    return probe.ask("prepare", probe.subject.log)


def _arrays(prepared: PreparedLog) -> dict[str, np.ndarray]:
    data = prepared.data
    packed = {"train": data.train, "val history": data.val.extra, "test history": data.test.extra}
    found = {
        f"{part}.{name}": np.asarray(getattr(sequences, name))
        for part, sequences in packed.items()
        for name in ("items", "times", "rows", "offsets")
    }
    for split in (data.val, data.test):
        for name in ("users", "targets", "target_rows"):
            found[f"{split.name}.{name}"] = np.asarray(getattr(split, name))
    labels = {"item vocabulary": prepared.item_labels, "users": prepared.user_labels}
    return found | {name: np.asarray(values) for name, values in labels.items()}
