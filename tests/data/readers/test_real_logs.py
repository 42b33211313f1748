"""Real logs of every format load with the counts their publishers state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.data.readers import preview, read_interactions

LOGS = [
    ("ml-100k/ml-100k.inter", "inter", "s", 943, 1682, 100_000, "1997-09-20", "1998-04-22"),
    ("ml-1m-users1-2999/ratings.dat.gz", "dat", "s", 2999, 3615, 487_650,
     "2000-10-04", "2003-02-27"),
    ("ml-latest-small/ml-latest-small.zip", "csv", "s", 610, 9724, 100_836,
     "1996-03-29", "2018-09-24"),
    ("movietweetings-100k/ratings.dat", "dat", "s", 16_554, 10_506, 100_000,
     "2013-02-28", "2013-09-01"),
    ("ms-store/ms_usage.csv", "csv", "iso", 2343, 101, 11_838, "2014-11-18", "2015-06-09"),
    ("otto-sample/train.jsonl", "jsonl", "ms", 20, 510, 862, "2022-07-31", "2022-08-28"),
    ("ml-1m-seq/ml-1m-seq.inter.gz", "inter", "s", 6040, 3416, 999_611, "1970-01-01", "1970-01-01"),
    ("amazon-beauty-seq/amazon-beauty-seq.inter.gz", "inter", "s", 52_204, 57_289, 394_908,
     "1970-01-01", "1970-01-01"),
]  # fmt: skip


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log[0].split("/")[0])
def test_real_log_loads(log: tuple, shared_dir: Path) -> None:
    path, form, unit, users, items, rows, first, last = log
    seen = preview(shared_dir / "data" / path)
    report = seen.report
    assert (report.format, report.time_unit) == (form, unit)
    assert (seen.num_users, seen.num_items, report.num_rows) == (users, items, rows)
    assert len(report.unparsed) == 0
    assert (seen.first_time[:10], seen.last_time[:10]) == (first, last)
    assert any("positions" in text for text in report.warnings) == (first == "1970-01-01")


def test_ids_are_kept_as_written(shared_dir: Path) -> None:
    frame, _ = read_interactions(shared_dir / "data" / "movietweetings-100k" / "ratings.dat")
    assert frame["item_id"][2] == "0104257"
    assert frame["rating"][2] == 8.0
