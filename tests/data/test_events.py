from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.events import find_positions, list_raw_ids, to_events

TEXTS = st.lists(st.text(min_size=1, max_size=4), max_size=20)


@given(TEXTS)
def test_list_raw_ids_depends_on_the_set_alone(texts: list[str]) -> None:
    listed = list_raw_ids(pl.Series(texts, dtype=pl.String)).to_list()
    again = list_raw_ids(pl.Series(texts[::-1] + texts, dtype=pl.String)).to_list()
    assert listed == again
    assert listed == sorted(set(texts), key=lambda t: (len(t.encode()), t.encode()))


@given(TEXTS, TEXTS)
def test_find_positions_inverts_the_list(values: list[str], listed: list[str]) -> None:
    raw_ids = list_raw_ids(pl.Series(listed, dtype=pl.String))
    positions = find_positions(pl.Series(values, dtype=pl.String), raw_ids)
    expected = [raw_ids.to_list().index(v) if v in set(listed) else -1 for v in values]
    assert positions.tolist() == expected
    assert positions.dtype == np.int32


def test_to_events_keeps_the_order_of_the_table(toy_log: pl.DataFrame) -> None:
    events = to_events(toy_log, pl.Series(["a", "b", "c"]), pl.Series(["x", "y"]))
    assert events.users[:3].tolist() == [1, 0, 0]
    assert events.items[:5].tolist() == [0, 0, 1, 0, -1]
    assert events.rows.tolist() == list(range(12))
    assert len(events.take(np.array([True] + [False] * 11))) == 1
