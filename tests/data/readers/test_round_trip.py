"""Whatever ids a log holds, every format gives them back."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.data.readers import read_interactions
from tasks.data.readers.rows import MISSING

COLUMNS = ("user_id", "item_id", "timestamp")
Event = tuple[str, str, int]
IDS = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and text not in MISSING)
)
TIMES = st.integers(1_000_000_000, 2_000_000_000)
EVENTS = st.lists(st.tuples(IDS, IDS, TIMES), min_size=1, max_size=8)
AWKWARD = [
    ("a,b", '"', 10**9),
    ('""', "x\ny", 10**9),
    ("x\r\n.", "a\t;|", 10**9),
    ("::", "#", 10**9),
]


def to_csv(events: list[Event]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([COLUMNS, *events])
    return buffer.getvalue().encode()


def to_json_lines(events: list[Event]) -> bytes:
    lines = (json.dumps(dict(zip(COLUMNS, event, strict=True))) for event in events)
    return "\n".join(lines).encode()


def to_parquet(events: list[Event]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(events, schema=COLUMNS, orient="row").write_parquet(buffer)
    return buffer.getvalue()


def to_gzip(events: list[Event]) -> bytes:
    return gzip.compress(to_csv(events), mtime=0)


@pytest.mark.parametrize("write", [to_csv, to_gzip, to_json_lines, to_parquet])
@settings(
    max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS)
@example(events=AWKWARD)
@example(events=[("0", "0\r0", 10**9), ("0", "0\n0", 10**9)])
def test_ids_come_back(write: Callable, events: list[Event], tmp_path) -> None:
    path = tmp_path / "log"
    path.write_bytes(write(events))
    frame, report = read_interactions(path)
    assert len(report.unparsed) == 0
    assert frame["user_id"].to_list() == [user for user, _, _ in events]
    assert frame["item_id"].to_list() == [item for _, item, _ in events]
    assert frame["timestamp"].to_list() == [time * 1_000_000 for *_, time in events]
    assert frame["row"].to_list() == list(range(len(events)))


def test_usable_rows_do_not_depend_on_unusable_ones(tmp_path) -> None:
    good = b"user,item,rating,time\n" + b"u1,i1,5,1500000000\n" * 3
    (tmp_path / "good.csv").write_bytes(good)
    (tmp_path / "bad.csv").write_bytes(good + b",i2,4,1500000000\n")
    clean, _ = read_interactions(tmp_path / "good.csv")
    rest, report = read_interactions(tmp_path / "bad.csv")
    assert rest.equals(clean)
    assert len(report.unparsed) == 1


def test_report_is_ready_for_json(tmp_path) -> None:
    (tmp_path / "log.csv").write_bytes(to_csv(AWKWARD))
    _, report = read_interactions(tmp_path / "log.csv")
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["columns"] == {
        "user_id": "user_id",
        "item_id": "item_id",
        "timestamp": "timestamp",
    }
    assert (stored["num_rows"], stored["num_unparsed"], stored["time_unit"]) == (4, 0, "s")
    assert report.describe().startswith(
        "log.csv: csv separated by ',', utf-8, with header; user_id"
    )
