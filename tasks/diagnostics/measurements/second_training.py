"""The whole training with another seed, where what the first one shows may be its seed's doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tasks.diagnostics.finding import Repeat
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import (
    NotApplicableError,
    NotMeasuredError,
    NotOfferedError,
    SubjectError,
)
from tasks.diagnostics.question import COMMANDS

E = TypeVar("E")


def measure(probe: Probe) -> Probe:
    """Train with the next seed, and return a probe of the same program that holds this training.

    Raises:
        NotMeasuredError: The budget has no training, or there is no first one.
        NotOfferedError: The program has no whole training.
        SubjectError: The training failed.
    """
    probe.require("deep")
    first = probe.subject.trained
    if first is None:
        raise NotMeasuredError("a finished training; " + COMMANDS["after_training"])
    used = first.record.get("seed")
    seed = max(probe.seed, used if isinstance(used, int) else probe.seed) + 1
    second = probe.ask("train", probe.subject, seed)
    return Probe(probe.subject.replace(trained=second), "after_training", seed=probe.seed)


def repeat(
    probe: Probe, measurement: Callable[[Probe], E], read: Callable[[E], Repeat]
) -> Repeat | None:
    """Return what a measurement finds of the second training, which is made when first asked for.

    None where the budget or the program has no second training, or nothing could be measured.
    """
    try:
        return read(probe.evidence(measure).evidence(measurement))
    except (NotMeasuredError, NotOfferedError, NotApplicableError, SubjectError):
        return None
