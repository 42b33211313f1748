"""Does a score change when only later events change? Perturbation of the future."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.measurements.perturbation import change_after, largest_change, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class FutureLeak:
    """Influence of later events on earlier scores."""

    largest_change: float = quantity("standard deviations of the logits")
    position: int = quantity("position whose score changed most")
    num_cuts: int = quantity("cuts tried")


def measure(probe: Probe) -> FutureLeak:
    """Change everything after a cut, for several cuts; compare the scores up to it."""
    batch = probe.batch()
    last = batch.item_ids.shape[1] - 1
    cuts = sorted({0, last // 4, last // 2, last - 1} & set(range(last)))
    if not cuts:
        raise NotMeasuredError("a training window of at least two events")
    before = probe.replay(batch)
    unit = spread(before, batch.mask)
    worst, place = 0.0, 0
    for cut in cuts:
        after = probe.replay(change_after(batch, cut, probe.data.num_items, probe.seed))
        past = batch.mask.clone()
        past[:, cut + 1 :] = False
        change = largest_change(before, after, past, unit)
        if change > worst:
            worst, place = change, cut
    return FutureLeak(largest_change=worst, position=place, num_cuts=len(cuts))
