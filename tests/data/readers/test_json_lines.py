"""JSON lines, flat and nested, good and broken."""

from __future__ import annotations

import pytest

from tasks.data.readers import read_interactions

GOOD = b'{"user":"a","item":1,"ts":1500000000}\n{"user":"b","item":2,"ts":1500000001}\n'
NESTED = (
    b'{"session":7,"events":[{"aid":1,"ts":1659304800025,"type":"clicks"},'
    b'{"aid":2,"ts":1659304800026,"type":"carts"}]}\n'
    b'{"session":8,"events":[{"aid":3,"ts":1659304800027,"type":"orders"}]}\n'
)
DEEP = b'{"u":{"id":"a"},"x":{"y":[{"p":{"sku":"i1"},"t":1500000000},{"p":null,"t":1500000001}]}}\n'


def case(name: str, content: bytes, *expected: object, file: str = "log.jsonl", **reading: str):
    return pytest.param(file, content, expected, reading, id=name)


CASES = [
    case("flat", GOOD, 2, 0),
    case("under_another_name", GOOD, 2, 0, file="log.txt"),
    case("byte_order_mark", b"\xef\xbb\xbf" + GOOD, 2, 0),
    case("utf16", GOOD.decode().encode("utf-16"), 2, 0),
    case("windows_line_ends", GOOD.replace(b"\n", b"\r\n"), 2, 0),
    case("no_last_line_end", GOOD.rstrip(), 2, 0),
    case("blank_lines", GOOD.replace(b"\n", b"\n\n"), 2, 0),
    case("numbers_and_texts_as_ids", GOOD.replace(b'"b"', b"5"), 2, 0),
    case("escaped_text", GOOD.replace(b'"a"', b'"\\u00e9\\n\\""'), 2, 0),
    case("emoji_pair", GOOD.replace(b'"a"', b'"\\ud83d\\ude00"'), 2, 0),
    case("half_a_pair", GOOD.replace(b'"a"', b'"\\ud800u0041"'), 1, 1),
    case("other_half_of_a_pair", GOOD.replace(b'"a"', b'"\\ude00"'), 1, 1),
    case("backslash_before_half_a_pair", GOOD.replace(b'"a"', b'"\\\\ud800"'), 2, 0),
    case("only_halves_of_pairs", GOOD.replace(b'"a"', b'"\\ud800"')[:44], "no JSON object"),
    case("iso_times", b'{"user":1,"item":2,"date":"2015-06-09T10:00:00+02:00"}\n', 1, 0),
    case("more_fields", GOOD + b'{"user":1,"item":2,"ts":1500000000,"x":[1]}\n', 3, 0),
    case("field_missing_in_a_line", GOOD + b'{"user":1,"ts":1500000000}\n', 2, 1),
    case("null_field", GOOD + b'{"user":null,"item":1,"ts":1500000000}\n', 2, 1),
    case("line_cut", GOOD + b'{"user":"c","it', 2, 1),
    case("line_is_text", GOOD + b"hello\n", 2, 1),
    case("line_is_a_number", GOOD + b"5\n", 2, 1),
    case("line_is_a_list", GOOD + b"[1,2]\n", 2, 1),
    case("two_objects_in_a_line", GOOD.replace(b"\n", b"", 1), "no JSON object"),
    case("number_beyond_floats", GOOD + b'{"user":"c","item":1e999,"ts":1}\n', 2, 1),
    case("not_a_number", GOOD + b'{"user":"c","item":1,"ts":NaN}\n', 2, 1),
    case("single_quotes", GOOD.replace(b'"', b"'"), "no JSON object", "'user'"),
    case("first_line_broken", b"{oops\n" + GOOD, 2, 1),
    case("bad_utf8", GOOD + b'{"user":"\xff","item":1,"ts":1500000000}\n', 3, 0),
    case("array", b"[" + GOOD.rstrip().replace(b"\n", b",") + b"]", "one JSON array", "jq -c"),
    case("pretty_printed", b'{\n "user": 1,\n "item": 2\n}\n', "no JSON object"),
    case("only_text", b"{hello}\n{world}\n", "no JSON object"),
    case("empty_objects", b"{}\n{}\n", "no column 'user_id'"),
    case("no_item_field", b'{"user":1,"when":5}\n', "'user', 'when'", "data.item_column"),
    case("deeply_nested_brackets", b"{" + b'"a":{' * 5000 + b"\n", "no JSON object"),
    case("nested_events", NESTED, 3, 0),
    case("nested_names_stated", NESTED, 3, 0, item_column="events.type"),
    case("nested_in_objects", DEEP, 1, 1, user_column="u.id", time_column="x.y.t"),
    case("no_events", NESTED + b'{"session":9,"events":[]}\n', 3, 0),
    case("events_is_no_list", NESTED + b'{"session":9,"events":{"aid":1}}\n', 3, 1),
    case("events_null", NESTED + b'{"session":9,"events":null}\n', 3, 1),
    case("list_inside_list", b'{"user":1,"e":[{"item":[1,2],"ts":1500000000}]}\n', "not a value"),
    case("two_lists", b'{"user":1,"a":[{"item":1}],"b":[{"ts":1}]}\n', "different lists"),
    case("whole_object_as_id", b'{"user":{"a":1},"item":1,"ts":1}\n', "'user.a'", "no column"),
    case("stated_csv", GOOD, "no header", format="csv"),
    case("stated_jsonl_in_csv", b"user,item,time\n1,2,3\n", "no JSON object", format="jsonl"),
]


@pytest.mark.parametrize(("file", "content", "expected", "reading"), CASES)
def test_json_lines(file, content, expected, reading, assert_read_as) -> None:
    assert_read_as(file, content, expected, reading)


def test_broken_lines_are_told_with_line_and_reason(assert_read_as) -> None:
    content = b"\n" + GOOD + b'{"user":\n{"user":"c","item":3}\n' + GOOD
    report = assert_read_as("log.jsonl", content, (4, 2), {})
    rows = report.unparsed.rows()
    assert [row[:2] for row in rows] == [(2, 4), (3, 5)]
    assert rows[0][2].startswith("line is no JSON: Expecting value")
    assert rows[1][2:] == ("ts is missing", '{"user":"c","item":3}')
    assert report.num_blank_lines == 2


def test_rows_count_events_and_broken_lines(assert_read_as, tmp_path) -> None:
    first, second = NESTED.split(b"\n")[:2]
    path = tmp_path / "log.jsonl"
    path.write_bytes(first + b"\noops\n" + second + b"\n")
    frame, report = read_interactions(path)
    assert frame["row"].to_list() == [0, 1, 3]
    assert report.unparsed["row"].to_list() == [2]
    assert frame["user_id"].to_list() == ["7", "7", "8"]
    assert frame["timestamp"][0] == 1_659_304_800_025_000
    assert report.columns == {
        "user_id": "session",
        "item_id": "events.aid",
        "timestamp": "events.ts",
    }
    assert report.time_unit == "ms"
