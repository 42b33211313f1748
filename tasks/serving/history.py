"""One history, as every part of serving passes it on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class History(NamedTuple):
    """Events of one user, oldest first.

    Attributes:
        items: int64 (S,), encoded 1..num_items.
        times: int64 (S,), microseconds since the epoch; None where they are not known.
    """

    items: np.ndarray
    times: np.ndarray | None


NO_HISTORY = History(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
"""What is known of someone new."""
