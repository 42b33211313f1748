"""Does a user's score change when only other users of the batch change? Both directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.perturbation import change_rows, largest_change, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class BatchLeak:
    """Influence of other rows on a row's scores."""

    from_later_rows: float = quantity("standard deviations of the logits")
    from_earlier_rows: float = quantity("standard deviations of the logits")
    num_rows: int = quantity("rows")

    @property
    def largest(self) -> float:
        """The larger of both directions."""
        return max(self.from_later_rows, self.from_earlier_rows)


def measure(probe: Probe) -> BatchLeak:
    """Keep the first row and change the others, then keep the last row and change the others.

    One direction alone misses recurrences that run over the batch: they carry influence only from
    earlier rows to later ones.
    """
    batch = probe.batch()
    rows = len(batch.item_ids)
    if rows < 2:
        raise NotMeasuredError("a batch of at least two rows")
    before = probe.replay(batch)
    unit = spread(before, batch.mask)

    def influence(changed: slice, kept: int) -> float:
        after = probe.replay(change_rows(batch, changed, probe.data.num_items, probe.seed))
        where = torch.zeros_like(batch.mask)
        where[kept] = batch.mask[kept]
        return largest_change(before, after, where, unit)

    return BatchLeak(
        from_later_rows=influence(slice(1, None), 0),
        from_earlier_rows=influence(slice(0, -1), rows - 1),
        num_rows=rows,
    )
