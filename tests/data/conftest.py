"""Small logs and prepared folders for the tests of the data room."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pytest

from tasks.data.build import build_prepared
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe

MakeLog = Callable[..., pl.DataFrame]


@pytest.fixture(scope="session")
def make_log() -> MakeLog:
    """Return a function from (user, item, time in seconds) triples to a log."""

    def build(events: Iterable[tuple], ratings: Iterable | None = None) -> pl.DataFrame:
        events = list(events)
        frame = pl.DataFrame(
            {
                "user_id": pl.Series([str(user) for user, _, _ in events], dtype=pl.String),
                "item_id": pl.Series([str(item) for _, item, _ in events], dtype=pl.String),
                "timestamp": pl.Series([t * 1_000_000 for *_, t in events], dtype=pl.Int64),
                "row": pl.Series(range(len(events)), dtype=pl.Int64),
            }
        )
        if ratings is not None:
            frame = frame.with_columns(rating=pl.Series(list(ratings), dtype=pl.Float64))
        return frame

    return build


@pytest.fixture(scope="session")
def toy_log(make_log: MakeLog) -> pl.DataFrame:
    """Three users with 5, 4 and 3 events; repeats, equal times, rows out of order."""
    return make_log(
        [
            ("b", "x", 20),  # row 0
            ("a", "x", 10),
            ("a", "y", 20),
            ("a", "x", 30),
            ("b", "z", 10),
            ("a", "z", 40),
            ("a", "y", 40),  # row 6, tied with row 5
            ("b", "z", 30),
            ("b", "x", 40),
            ("c", "y", 5),
            ("c", "y", 6),
            ("c", "w", 7),
        ]
    )


@pytest.fixture
def toy(tmp_path: Path, toy_log: pl.DataFrame) -> PreparedData:
    """The toy log prepared leave-one-out."""
    build_prepared(tmp_path / "prepared", toy_log, Recipe())
    return PreparedData.load(tmp_path / "prepared")
