"""Ten million users with one event each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.bad_input.conftest import Command, assert_refused
from tests.bad_input.test_logs import prepare

NUM_USERS = 10_000_000


@pytest.mark.long
def test_ten_million_users_with_one_event(place: Path, stage: Command) -> None:
    numbers = np.arange(NUM_USERS)
    frame = pl.DataFrame(
        {"user_id": numbers, "item_id": numbers % 1000, "timestamp": 1_500_000_000 + numbers}
    )
    prepare(place, "log.parquet", b"", {})
    frame.write_parquet(place / "log.parquet")

    assert stage("fetch").code == 0
    ended = stage("prepare")

    assert_refused(ended, "0 validation and 0 test examples", "3 events or more")
    assert not (place / "data" / "prepared").exists()
