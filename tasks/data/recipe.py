"""Every choice of the preparation in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.data.filters import DuplicatesPolicy, RepeatsPolicy
from tasks.data.splits import ColdTargets, ColdUsers, TargetChoice

SplitKind = Literal["leave_one_out", "temporal"]
Scope = Literal["full", "train"]
Boundaries = Literal["quantile", "time"]


@dataclass(frozen=True)
class Recipe:
    """How a log becomes training sequences and examples.

    Attributes:
        rating_threshold: Events rated lower are dropped.
        duplicates: Events equal in user, item and time: ``keep``, or ``drop`` all but the first.
        repeats: Repeats of an item by one user.
        min_user_events: Fewest events of a user in the corpus.
        min_item_events: Fewest events of an item in the corpus.
        split: Leave-one-out, or two points in time.
        corpus: Rows the k-core counts: the whole log, or its training period.
        vocabulary: Rows that give items an id: the whole corpus, or its training part.
        boundaries: How a temporal split finds its points in time.
        quantiles: Shares of events before validation and before test (``quantile``).
        starts: Start of validation and of test in microseconds (``time``).
        temporal_target: Event of a held-out period that is the target (temporal split).
        cold_targets: Targets without an id count as a miss, or their example is dropped.
        cold_users: Users without training events are dropped, or kept where held-out events
            give them a history.
    """

    rating_threshold: float = 0.0
    duplicates: DuplicatesPolicy = "keep"
    repeats: RepeatsPolicy = "keep"
    min_user_events: int = 3
    min_item_events: int = 1
    split: SplitKind = "leave_one_out"
    corpus: Scope = "full"
    vocabulary: Scope = "full"
    boundaries: Boundaries = "quantile"
    quantiles: tuple[float, float] = (0.8, 0.9)
    starts: tuple[int, int] = (0, 0)
    temporal_target: TargetChoice = "first"
    cold_targets: ColdTargets = "miss"
    cold_users: ColdUsers = "drop"
