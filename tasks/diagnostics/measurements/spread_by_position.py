"""Do scores tell users apart as well at the end of a window as at its beginning?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

FEWEST = 4


@dataclass(frozen=True)
class SpreadByPosition:
    """Standard deviation of scores between users, position by position."""

    last_over_first: float = quantity("spread at the last position over that at the first")
    power: float = quantity("power of the number of positions by which the spread changes")
    num_positions: int = quantity("positions")
    by_position: tuple[float, ...] = ()


def measure(probe: Probe) -> SpreadByPosition:
    """Score full windows of several users with new weights; compare users position by position."""
    batch = probe.batch(rows=16, positions=64)
    lengths = batch.lengths
    width = int(lengths.sort(descending=True).values[: max(2, len(lengths) // 2)].min())
    full = batch.rows(batch.mask[:, :width].all(dim=1).nonzero().flatten())
    full = full.columns(slice(0, width))
    if width < FEWEST or len(full.item_ids) < 2:
        raise NotMeasuredError(f"two full training windows of {FEWEST} events, padded on the right")
    scores = probe.replay(full, shake=False)
    spread: Tensor = scores.std(dim=0, correction=0).mean(dim=-1)
    first, last = float(spread[0]), float(spread[-1])
    if not first > 0:
        raise NotMeasuredError("scores that differ between users after one event")
    power = math.log(last / first) / math.log(width) if last > 0 else -math.inf
    return SpreadByPosition(last / first, power, width, tuple(spread.tolist()))
