"""Stopping a training at the next step when the process is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and Ctrl-C into a question the training loop asks after every step.

    A second signal of the kind acts as it would have without this. In threads other than the main
    one, which can't receive signals, the answer is always False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    is_told = threading.Event()
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def tell(number: int, frame: FrameType | None) -> None:
        is_told.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, tell)
    try:
        yield is_told.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
