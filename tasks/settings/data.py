"""Settings of the stages ``fetch`` and ``prepare``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.settings.base import Section


class SyntheticSettings(Section):
    """The generator of the embedded synthetic log (``data.source: synthetic``)."""

    num_users: int = Field(2000, ge=10, le=10_000_000)
    """Users in the log."""
    num_items: int = Field(200, ge=10, le=10_000_000)
    """Items in the catalogue."""
    min_length: int = Field(10, ge=3, le=100_000)
    """Shortest history, in events."""
    max_length: int = Field(60, ge=3, le=100_000)
    """Longest history, in events; lengths are uniform between the two."""
    num_tastes: int = Field(4, ge=1, le=64)
    """Latent taste classes a user is drawn from."""
    zipf_exponent: float = Field(1.0, ge=0.0, le=3.0)
    """Popularity skew: popularity of the r-th item is proportional to r^-exponent."""
    popularity_weight: float = Field(0.1, ge=0.0, le=1.0)
    """Mixture weight of plain popularity."""
    taste_weight: float = Field(0.2, ge=0.0, le=1.0)
    """Mixture weight of the user's latent taste."""
    order1_weight: float = Field(0.3, ge=0.0, le=1.0)
    """Mixture weight of transitions from the last item."""
    order2_weight: float = Field(0.2, ge=0.0, le=1.0)
    """Mixture weight of transitions from the last two items together."""
    lag_weight: float = Field(0.2, ge=0.0, le=1.0)
    """Mixture weight of the long-range dependency."""
    state_weight: float = Field(0.0, ge=0.0, le=1.0)
    """Mixture weight of the state-tracking component (a running parity of the history)."""
    lag: int = Field(10, ge=1, le=10_000)
    """Distance of the long-range dependency, in events."""
    branching: int = Field(5, ge=1, le=1000)
    """Successors per context in the transition components."""
    seed: int = Field(0, ge=0, le=4_294_967_295)
    """Seed of the generator."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = (
            self.popularity_weight
            + self.taste_weight
            + self.order1_weight
            + self.order2_weight
            + self.lag_weight
            + self.state_weight
        )
        if abs(total - 1.0) > 1e-6:
            raise ValueError(
                f"the six mixture weights sum to {total:g}; expected 1. Change the *_weight values."
            )
        if self.max_length < self.min_length:
            raise ValueError(
                f"max_length is {self.max_length}, below min_length {self.min_length}; "
                "expected at least as large."
            )
        return self


class DataSettings(Section):
    """Where the log comes from and how it becomes sequences."""

    source: Literal["movielens-100k", "movielens-1m", "movielens-20m", "synthetic", "file"] = (
        "movielens-100k"
    )
    """Named source of the log; `file` reads `data.path`."""
    path: str = ""
    """The log to read when `source` is `file`, relative to the workspace or absolute."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "inter", "dat"] = "auto"
    """File format; `auto` decides by name and content and says what it found."""
    user_column: str = "user_id"
    """Column holding the user."""
    item_column: str = "item_id"
    """Column holding the item."""
    time_column: str = "timestamp"
    """Column holding the time of the event."""
    rating_column: str = "rating"
    """Column holding a rating; ignored where the log has none."""
    time_unit: Literal["auto", "s", "ms", "us", "iso"] = "auto"
    """Unit of the time column; `auto` detects it and says so."""
    rating_threshold: float = 0.0
    """Events rated below this are dropped; 0 keeps every non-negative rating."""
    min_user_events: int = Field(3, ge=1, le=1_000_000_000)
    """Users with fewer events are dropped (repeated with `min_item_events` until stable)."""
    min_item_events: int = Field(1, ge=1, le=1_000_000_000)
    """Items with fewer events are dropped (repeated with `min_user_events` until stable)."""
    repeats: Literal["keep", "drop_consecutive", "first"] = "keep"
    """Repeats of an item by one user: keep all, drop immediate ones, or keep the first only."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Events equal in user, item and time: keep all, or the first; copies of targets are counted
    either way."""
    tie_order: Literal["original_row"] = "original_row"
    """Order of a user's events with equal times: the order of the rows in the log."""
    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    """Hold out each user's last two events, or everything after a point in time."""
    corpus: Literal["auto", "full", "train"] = "auto"
    """What the corpus filters see: `auto` is full for leave-one-out, train for temporal."""
    vocabulary: Literal["auto", "full", "train"] = "auto"
    """Which rows give items an id: `auto` is full for leave-one-out, train for temporal."""
    boundaries: Literal["quantile", "time"] = "quantile"
    """Temporal split: place the boundaries by the `*_quantile` or by the `*_start` settings."""
    val_quantile: float = Field(0.8, gt=0.0, lt=1.0)
    """Temporal split: quantile of event times at which validation starts."""
    test_quantile: float = Field(0.9, gt=0.0, lt=1.0)
    """Temporal split: quantile of event times at which the test period starts."""
    val_start: str = ""
    """Temporal split: time at which validation starts, ISO 8601, UTC where it names no zone."""
    test_start: str = ""
    """Temporal split: time at which the test period starts, likewise."""
    temporal_target: Literal["first", "last"] = "first"
    """Temporal split: which event of a user's held-out period is the target."""
    cold_targets: Literal["miss", "drop"] = "miss"
    """Targets without an id count as a miss, or are dropped; both are counted."""
    cold_users: Literal["drop", "keep"] = "drop"
    """Temporal split: users without training events are left out of validation and test, or kept
    where held-out events before the target give them a history; both are counted."""
    max_quarantine_share: float = Field(0.01, ge=0.0, le=1.0)
    """Share of unusable rows above which the stage fails."""
    synthetic: SyntheticSettings = SyntheticSettings()
    """The generator's settings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "file" and not self.path:
            raise ValueError("path is empty but source is 'file'. Set data.path to the log.")
        if self.test_quantile <= self.val_quantile:
            raise ValueError(
                f"test_quantile is {self.test_quantile}; expected above val_quantile "
                f"{self.val_quantile}."
            )
        if self.boundaries == "time":
            self._check_starts()
        return self

    def _check_starts(self) -> None:
        starts = []
        for name in ("val_start", "test_start"):
            text = getattr(self, name)
            try:
                time = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(
                    f"{name} is {text!r} but boundaries is 'time'; expected a time such as "
                    "2004-01-31 or 2004-01-31T12:00:00Z."
                ) from None
            starts.append(time if time.tzinfo else time.replace(tzinfo=UTC))
        if starts[0] >= starts[1]:
            raise ValueError(
                f"val_start {self.val_start} is not before test_start {self.test_start}; expected "
                "validation to start first."
            )
