"""When to record next, so that recording takes no more than a share of a training's time.

On a GPU a step takes milliseconds, and a look at it many times as long: at a fixed distance the
looks would take most of the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

GROWTH = 4
"""How many times the distance may grow at once: a single slow look, one that compiles kernels, says
little about the next."""


class RecordingPace:
    """Widens the distance between recorded steps until they take at most a share of the time.

    The first recorded step is not counted: it compiles kernels.

    Args:
        every_steps: smallest distance, in steps.
        share: largest share of the time, 0..1 (exclusive).
        clock: seconds; to be read when all work given to the device has ended.

    >>> seconds = iter([0, 9, 10, 12, 22, 24])
    >>> pace = RecordingPace(10, 0.05, lambda: next(seconds))
    >>> pace.begin(1), pace.end(1), pace.wants(10), pace.wants(11)
    (None, None, False, True)
    >>> pace.begin(11), pace.end(11)  # 2 s, where 10 steps take 1 s
    (None, None)
    >>> pace.distance
    40
    """

    def __init__(
        self,
        every_steps: int,
        share: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share is {share}; expected a number between 0 and 1.")
        self.distance = every_steps
        self._every, self._share, self._clock = every_steps, share, clock
        self._next = 1
        self._cost = math.inf
        self._begun = 0.0
        self._ended: tuple[int, float] | None = None

    def start(self, resumed_step: int) -> None:
        """Goes on after so many steps; the first step after a resume is not recorded."""
        if resumed_step:
            self._next = resumed_step + self._every

    def wants(self, step: int) -> bool:
        """Whether a step is to be recorded."""
        return step >= self._next

    def begin(self, step: int) -> None:
        """The recording of a step begins."""
        self._begun = self._clock()

    def end(self, step: int) -> None:
        """It has ended, the step itself with it; sets the distance to the next."""
        now = self._clock()
        if self._ended is not None:
            last, ended = self._ended
            self._cost = min(self._cost, now - self._begun)
            pace = max(self._begun - ended, 1e-9) / max(step - last - 1, 1)
            fitting = math.ceil(self._cost / (self._share * pace))
            self.distance = min(max(fitting, self._every), GROWTH * self.distance)
        self._ended = (step, now)
        self._next = step + self.distance
