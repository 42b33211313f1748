"""Does the time of an event reach the scores after it, and no score before it?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.perturbation import largest_change, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

DELAYS = (3_600_000_000, 40 * 86_400_000_000)
"""An hour and forty days in microseconds: gap features are coarse at one end or the other."""

NO_TIMES = "times in the training batches"
NOTHING = 1e-6
"""Standard deviations of the logits; float32 resolution."""


@dataclass(frozen=True)
class TimeInfluence:
    """Influence of the last event's time."""

    on_last: float = quantity("standard deviations of the logits, scores after it")
    on_earlier: float = quantity("standard deviations of the logits, scores before it")


@dataclass(frozen=True)
class TimeUse:
    """Whether scores depend on times at all, whatever is declared.

    Attributes:
        influence: None where it could not be measured.
        lacking: What is missing then.
    """

    influence: TimeInfluence | None
    lacking: str = ""

    def proof(self, uses_times: bool) -> str:
        """Say that the model reads no times, where that was seen; "" where it does or may."""
        if uses_times or self.influence is None:
            return "" if uses_times or self.lacking != NO_TIMES else f"there are no {NO_TIMES}"
        moved = max(self.influence.on_last, self.influence.on_earlier)
        return "" if moved > NOTHING else f"times move scores by {moved:.2g}: the model reads none"


def measure_use(probe: Probe) -> TimeUse:
    """Move times and look at the scores; what can't be done is said."""
    try:
        return TimeUse(probe.evidence(measure))
    except NotMeasuredError as problem:
        return TimeUse(None, str(problem))


def measure(probe: Probe) -> TimeInfluence:
    """Delay the last event of full rows, and nothing else."""
    batch = probe.batch()
    if batch.times is None:
        raise NotMeasuredError(NO_TIMES)
    width = int(batch.lengths.max())
    full = batch.columns(slice(0, width))
    full = full.rows(full.mask.all(dim=1).nonzero().flatten())
    if len(full.item_ids) == 0 or width < 2:
        raise NotMeasuredError("a training window of two events without padding")
    before = probe.replay(full)
    unit = spread(before, full.mask)
    last = torch.zeros_like(full.mask)
    last[:, -1] = True
    on_last, on_earlier = 0.0, 0.0
    for delay in DELAYS:
        times = full.times.clone()
        times[:, -1] += delay
        after = probe.replay(full._replace(times=times))
        on_last = max(on_last, largest_change(before, after, last, unit))
        on_earlier = max(on_earlier, largest_change(before, after, ~last, unit))
    return TimeInfluence(on_last, on_earlier)
