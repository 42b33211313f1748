from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.serving.requests import Request, RequestError, parse_history, parse_time, read_requests


def write(tmp_path: Path, name: str, content: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_of_csv(tmp_path: Path) -> None:
    text = 'user,history,times\n7,,\n8,"a,b","1,2"\n,"""x, y"",z",\n'
    assert list(read_requests(write(tmp_path, "in.csv", "\ufeff" + text))) == [
        Request("7"),
        Request("8", ("a", "b"), (1_000_000, 2_000_000)),
        Request("", ("x, y", "z")),
    ]


def test_rows_of_json_lines(tmp_path: Path) -> None:
    text = '{"user": 7}\n\n{"history": ["a", 5], "times": [1, "1970-01-01T00:00:02"]}\n'
    assert list(read_requests(write(tmp_path, "in.jsonl", text))) == [
        Request("7"),
        Request("", ("a", "5"), (1_000_000, 2_000_000)),
    ]


def test_a_row_with_an_empty_history_asks_with_an_empty_history(tmp_path: Path) -> None:
    assert list(read_requests(write(tmp_path, "in.csv", 'history\n""\n'))) == [Request("", ())]
    assert list(read_requests(write(tmp_path, "in.jsonl", '{"history": []}'))) == [Request("", ())]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.txt", "user\n7\n", "expected .csv or .jsonl"),
        ("in.csv", "person\n7\n", "has the columns person; expected user or history"),
        ("in.csv", "", "has the columns none"),
        ("in.csv", b"user\n\xff\xfe\n", "can't be read as UTF-8"),
        ("in.csv", "history,times\na,soon\n", "line 2: time 'soon'"),
        ("in.csv", "user,times\n7,1\n", "line 2: times without a history"),
        ("in.jsonl", "{", "line 1 is not JSON"),
        ("in.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("in.jsonl", '\n["u"]', "line 2 holds no object"),
        ("in.jsonl", '{"history": "a,b"}', "history is 'a,b'; expected a list"),
        ("in.jsonl", '{"user": null}', "user is None"),
        ("in.jsonl", '{"user": 1, "top": 3}', "the keys are user, top"),
        ("in.jsonl", "{}", "the keys are none"),
        ("in.jsonl", '{"history": ["a"], "times": [1e300]}', "time '1e\\+300' can't be read"),
    ],
    ids=range(14),
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        list(read_requests(write(tmp_path, name, content)))


@given(st.text(max_size=40))
def test_any_text_is_a_history_or_a_clear_error(text: str) -> None:
    try:
        items = parse_history(text)
    except ValueError as error:
        assert "can't be read" in str(error)
    else:
        assert all(isinstance(item, str) for item in items)
        assert bool(items) == bool(text.strip())


@given(st.lists(st.text("abc,\" '", min_size=1, max_size=5).filter(str.strip), min_size=1))
def test_quoted_items_come_back(items: list[str]) -> None:
    text = ",".join('"' + item.replace('"', '""') + '"' for item in items)
    assert parse_history(text) == tuple(item.strip() for item in items)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-1", -1_000_000),
        ("2024-05-01T00:00:00+02:00", 1_714_514_400_000_000),
        ("2024-04-30 22:00:00", 1_714_514_400_000_000),
    ],
)
def test_times_are_seconds_or_iso(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e400", "12:00", "yesterday"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected seconds since 1970 or ISO 8601"):
        parse_time(text)
