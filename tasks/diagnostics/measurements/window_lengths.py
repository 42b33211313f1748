"""How long the windows are that reach the model, beside what the log would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.measurements import epoch_coverage
from tasks.diagnostics.measurements.epoch_coverage import EpochCoverage
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class WindowLengths:
    """Real events per row of the training batches."""

    num_rows: int = quantity("rows")
    empty_rows: int = quantity("rows without a real event")
    unasked_rows: int = quantity("rows without a target")
    short_share: float = quantity("share of rows with fewer than 3 events, the target included")
    short_in_log: float = quantity("share of training sequences with fewer than 3 events")
    median_length: float = quantity("median inputs of a row")
    longest: int = quantity("inputs of the longest row")
    declared_longest: int = quantity("declared longest row, in inputs")
    lost_share: float | None = quantity("share of training pairs an epoch leaves out")
    steps_per_epoch: int = quantity("optimiser steps of an epoch")
    coverage: EpochCoverage | None = None


def measure(probe: Probe) -> WindowLengths:
    """Count real events per row, and the pairs that no row holds."""
    try:
        coverage = probe.evidence(epoch_coverage.measure)
    except NotMeasuredError:
        coverage = None
    lengths = np.concatenate([b.mask.sum(dim=1).cpu().numpy() for b in probe.all_batches])
    asked = np.concatenate([b.asked.sum(dim=1).cpu().numpy() for b in probe.all_batches])
    if not len(lengths):
        raise NotMeasuredError("training rows")
    in_log = np.asarray(probe.data.train.lengths)
    in_log = in_log[in_log > 0]
    declared = probe.subject.declared
    return WindowLengths(
        num_rows=len(lengths),
        empty_rows=int((lengths == 0).sum()),
        unasked_rows=int(((asked == 0) & (lengths > 0)).sum()),
        short_share=float((lengths + 1 < 3).mean()),
        short_in_log=float((in_log < 3).mean()) if len(in_log) else 0.0,
        median_length=float(np.median(lengths)),
        longest=int(lengths.max()),
        declared_longest=declared.max_seq_len,
        lost_share=None if coverage is None else 1.0 - coverage.covered_share,
        steps_per_epoch=-(-len(probe.all_batches) // max(declared.accumulate_steps, 1)),
        coverage=coverage,
    )
