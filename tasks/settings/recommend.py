"""Settings of recommending with a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings.base import Section


class RecommendSettings(Section):
    """`assay recommend`, and the explanations in the report."""

    item_table: str = ""
    """CSV with the columns id and name, so that items are shown and given by name; relative to the
    run's folder. Empty: items go by their id."""
    top_k: int = Field(10, ge=1, le=100_000)
    """Items per answer."""
    exclude_seen: bool = False
    """Leave out items of the history."""
    empty_history: Literal["popularity", "refuse"] = "popularity"
    """What answers where no event is known: the most popular items, or an error."""
    max_users: int = Field(10_000, ge=1, le=10_000_000)
    """Users whose states `--follow` keeps; beyond that the one longest unheard of is dropped."""
    seen_window: int = Field(1000, ge=1, le=1_000_000)
    """Last events per user that `--follow --exclude-seen` leaves out."""
