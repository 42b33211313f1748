"""How far back does a score look? Change one past event, watch the score some events later."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.perturbation import largest_change, other_items, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

LAG = 7
"""Longer than one convolution of width 4, the usual one, can reach by itself."""


@dataclass(frozen=True)
class Memory:
    """Influence of an event on the scores after itself and after later events."""

    of_last_event: float = quantity("standard deviations of the logits")
    of_earlier_event: float = quantity("standard deviations of the logits")
    lag: int = quantity("events between the change and the score")
    spread: float = quantity("standard deviation of the logits")


def measure(probe: Probe) -> Memory:
    """Change the first event of every row; compare the scores right after it and `LAG` later.

    Initial weights count here, unshaken: a core that ignores its input does so because of them.
    """
    batch = probe.batch()
    lag = min(LAG, int(batch.lengths.max()) - 1)
    if lag < 1:
        raise NotMeasuredError("a training window of at least two events")
    changed = batch.item_ids.clone()
    changed[:, :1] = other_items(changed[:, :1], probe.data.num_items, probe.seed)
    before = probe.replay(batch, shake=False)
    after = probe.replay(batch.with_items(changed), shake=False)
    unit = spread(before, batch.mask)

    def change_at(position: int) -> float:
        where = torch.zeros_like(batch.mask)
        where[:, position] = batch.mask[:, position]
        return largest_change(before, after, where, unit)

    return Memory(of_last_event=change_at(0), of_earlier_event=change_at(lag), lag=lag, spread=unit)
