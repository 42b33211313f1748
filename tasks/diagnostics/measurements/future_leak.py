"""Does a score change when only later events change, or are not there yet?"""

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
    by_length: float | None = quantity("standard deviations of the logits", default=None)


def measure(probe: Probe) -> FutureLeak:
    """Change everything after a cut, for several cuts; compare the scores up to it.

    What follows a cut is left out altogether, too: a score may know how much is to come. That is
    not tried where padding stands before the events, as some models count positions from the end.
    """
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
    by_length = None
    if probe.subject.declared.padding_side == "right":
        short = batch.columns(slice(0, last // 2 + 1))
        kept = before[:, : last // 2 + 1]
        by_length = largest_change(kept, probe.replay(short), short.mask, unit)
    return FutureLeak(worst, place, len(cuts), by_length)
