"""The time a training takes, added up across resumes."""

from __future__ import annotations

import time

from tasks.training.snapshot import Progress


class Clock:
    """Adds the time since the last tick to a progress, in seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def tick(self) -> None:
        """Counts the time since the last tick, or since the clock was made."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._progress.epoch_seconds += wall - self._wall
        self._progress.wall_seconds += wall - self._wall
        self._progress.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu
