"""Lines that say how far a long stage is. A fast one prints none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

SECONDS_BETWEEN = 2.0
"""Shortest time between two lines, and before the first."""


class Progress:
    """Prints how much of a stage is done and how long the rest will take.

    Args:
        title: What is going on, such as "prepare".
        stream: Where to print; the standard output by default.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        title: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._stream = stream
        self._clock = clock
        self._started = self._told = clock()

    def at(self, share: float) -> None:
        """Say that a share of the work, in (0, 1], is done; the end is not announced."""
        now = self._clock()
        if share >= 1 or now - self._told < SECONDS_BETWEEN:
            return
        self._told = now
        left = (now - self._started) * (1 - share) / share
        print(
            f"{self._title}: {share:.0%} done, about {spell_seconds(left)} left",
            file=self._stream or sys.stdout,
            flush=True,
        )


def spell_seconds(seconds: float) -> str:
    """Return a time as people read it.

    >>> spell_seconds(12.4), spell_seconds(75), spell_seconds(3700)
    ('12 s', '1:15 min', '1:01 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
