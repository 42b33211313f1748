"""One line of text per epoch, for people who watch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from tasks.training.observer import EpochReport, Observer, RunStart


class ProgressLines(Observer):
    """Prints how a training goes.

    Args:
        title: what is being trained, such as "gru seed 0".
        stream: where to print; the standard output by default.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self.title = title
        self._stream = stream
        self._max_epochs = 0

    def on_start(self, start: RunStart) -> None:
        """Prints the size of the task, and where it resumes."""
        self._max_epochs = start.max_epochs
        resumed = f", resuming at step {start.resumed_step}" if start.resumed_step else ""
        self._print(
            f"{start.num_parameters:,} parameters, {start.steps_per_epoch} steps per epoch, "
            f"at most {start.max_epochs} epochs{resumed}"
        )

    def on_epoch(self, report: EpochReport) -> None:
        """Prints the epoch's numbers; a star marks the best so far."""
        values = report.values
        validation = ", ".join(
            f"{name} {values[name]:.4f}"
            for name in ("val/ndcg_at_10", "val/hit_rate_at_10")
            if name in values
        )
        self._print(
            f"epoch {report.epoch}/{self._max_epochs}: train/loss {values['train/loss']:.4f}, "
            f"{validation} ({values['seconds']:.1f} s){' *' if report.is_best else ''}"
        )

    def on_finish(self, values: Mapping[str, Any]) -> None:
        """Prints which epoch was kept and why training ended."""
        self._print(
            f"kept epoch {values['best_epoch']} of {values['num_epochs']} "
            f"({values['stop_reason']}, {values['wall_seconds']:.0f} s)"
        )

    def _print(self, text: str) -> None:
        print(f"{self.title}: {text}", file=self._stream or sys.stdout, flush=True)
