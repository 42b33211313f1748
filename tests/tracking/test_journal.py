"""Journals lose no whole record and repeat none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.tracking.journal import Journal


def test_records_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "spool" / "1.jsonl")
    journal.append([{"op": "a"}, {"op": "b", "value": float("nan")}])
    journal.append([{"op": "c", "path": tmp_path}])

    records = [entry.record for entry in journal.entries()]

    assert [record["op"] for record in records] == ["a", "b", "c"]
    assert records[2]["path"] == str(tmp_path)


def test_a_torn_line_is_passed_over_and_the_next_record_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "1.jsonl")
    journal.append([{"op": "a"}])
    with journal.path.open("ab") as file:
        file.write(b'{"op": "killed whi')
    assert [entry.record for entry in journal.entries()] == [{"op": "a"}]

    journal.append([{"op": "b"}])

    assert [entry.record for entry in journal.entries()] == [{"op": "a"}, {}, {"op": "b"}]


def test_only_what_was_not_delivered_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "1.jsonl")
    journal.append([{"op": "a"}, {"op": "b"}, {"op": "c"}])
    assert journal.num_waiting() == 3

    journal.mark_delivered(list(journal.entries())[1].end)

    assert [entry.record["op"] for entry in journal.entries(journal.delivered())] == ["c"]
    assert journal.num_waiting() == 1
    journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"op": "tags", "val', {}),
        (b'{"op": "metrics", "points": [[1, {"a": 2}', {}),
        (b"", {}),
        (b"\0\0garbage", {"unreadable": "\0\0garbage"}),
        (b'{"op": tags}', {"unreadable": '{"op": tags}'}),
        (b"[1, 2]", {"unreadable": "[1, 2]"}),
    ],
    ids=["cut", "cut_after_brace", "blank", "garbage", "no_json", "no_object"],
)
def test_only_a_line_that_was_cut_off_is_nothing(
    tmp_path: Path, line: bytes, record: dict[str, str]
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b"\n")
    assert [entry.record for entry in Journal(path).entries()] == [record]


def test_a_mark_that_points_into_a_record_counts_as_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append([{"op": "run", "key": "k"}, {"op": "tags", "key": "k"}])
    first, last = (entry.end for entry in journal.entries())
    for offset, delivered in ((first, first), (last, last), (first + 3, 0), (last + 1, 0)):
        journal.mark_delivered(offset)
        assert journal.delivered() == delivered
