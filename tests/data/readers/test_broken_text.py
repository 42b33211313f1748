"""Delimited text that is damaged, unusual or not a log at all."""

from __future__ import annotations

import codecs

import pytest

HEADER = b"user_id,item_id,timestamp\n"
ROWS = b"u1,i1,1500000000\nu2,i2,1500000001\n"
CSV = HEADER + ROWS
CAFE = "user_id,item_id,timestamp\nJos\u00e9,caf\u00e9,1500000000\nAn\u00e9,th\u00e9,1500000001\n"
WIDE = b"u1,i1,1500000000,1,2,3\n"
TSV = CSV.replace(b",", b"\t")


def case(name: str, content: bytes, *expected: object, file: str = "log.csv", **reading: str):
    return pytest.param(file, content, expected, reading, id=name)


ENCODINGS = [
    case("utf8_bom", codecs.BOM_UTF8 + CSV, 2, 0),
    case("utf8_bom_without_header", codecs.BOM_UTF8 + ROWS, 2, 0),
    case("utf8_accents", CAFE.encode(), 2, 0),
    case("utf16_with_mark", CSV.decode().encode("utf-16"), 2, 0),
    case("utf16_le_without_mark", CSV.decode().encode("utf-16-le"), 2, 0),
    case("utf16_be_without_mark", CSV.decode().encode("utf-16-be"), 2, 0),
    case("utf16_accents", CAFE.encode("utf-16"), 2, 0),
    case("utf16_odd_length", CSV.decode().encode("utf-16")[:-1], "utf-16"),
    case("utf32", CSV.decode().encode("utf-32"), 2, 0),
    case("latin1", CAFE.encode("latin-1"), 2, 0),
    case("windows1252_quotes", CSV.replace(b"i1", b"\x93i1\x94"), 2, 0),
    case("utf8_with_one_bad_byte", CAFE.encode() + b"u3,i\xff,1500000002\n", 2, 1),
    case("bad_byte_in_unused_column", b"user,item,time,note\nu,i,1500000000,\xff\n", 1, 0),
    case(
        "latin1_in_header", "us\u00e9r,item,time\nu,i,1500000000\n".encode("latin-1"), "no column"
    ),
    case("byte_order_mark_twice", codecs.BOM_UTF8 * 2 + CSV, 2, 0),
    case("shift_jis", "user,item,time\n\u30e6,i,1500000000\n".encode("shift_jis"), 1, 0),
    case("emoji_ids", "user,item,time\n\U0001f600,\U0001f3ac,1500000000\n".encode(), 1, 0),
]
LINE_ENDS = [
    case("windows_line_ends", CSV.replace(b"\n", b"\r\n"), 2, 0),
    case("old_mac_line_ends", CSV.replace(b"\n", b"\r"), 2, 0),
    case("no_last_line_end", CSV.rstrip(), 2, 0),
    case("blank_lines_between", CSV.replace(b"\n", b"\n\n"), 2, 0),
    case("blank_lines_at_the_end", CSV + b"\n\n\n", 2, 0),
    case("blank_lines_before_the_header", b"\n\n" + CSV, 2, 0),
    case("spaces_only_line", HEADER + b"   \n" + ROWS, 2, 0),
    case("commas_only_line", CSV + b",,\n", 2, 1),
]
EMPTY = [
    case("empty_file", b"", "is empty (0 bytes)"),
    case("blank_file", b"\n\n  \n", "blank lines only"),
    case("header_only", HEADER, "a header but no data rows"),
    case("header_only_no_line_end", HEADER.rstrip(), "a header but no data rows"),
    case("byte_order_mark_only", codecs.BOM_UTF8, "blank lines only"),
    case("one_word", b"hello\n", "no separator", "hello"),
    case("one_row_without_header", b"u1,i1,1500000000\n", 1, 0),
    case("one_row", HEADER + b"u1,i1,1500000000\n", 1, 0),
]
SEPARATORS = [
    case("tabs_in_csv", TSV, 2, 0),
    case("semicolons", CSV.replace(b",", b";"), 2, 0),
    case("bars", CSV.replace(b",", b"|"), 2, 0),
    case("spaces", CSV.replace(b",", b" "), 2, 0),
    case("stated_tab_in_comma_file", CSV, "',' would give 3", "data.format", format="tsv"),
    case("stated_csv_in_tab_file", TSV, 2, 0, format="csv"),
    case("stated_separator", CSV, "'#' splits", "1 column", separator="#"),
    case("stated_dat_in_tab_file", TSV, 2, 0, file="log.dat", format="dat"),
    case("double_colons", b"1::2::3::1500000000\n1::3::3::1500000001\n", 2, 0, file="r.dat"),
    case("double_colons_with_colon_ids", b"a:b::c:d::1500000000\n", 1, 0, file="r.dat"),
    case("double_colons_and_control", b"1::\x1f2::3::1500000000\n", "0x1f", file="r.dat"),
    case("two_columns", b"user,item\nu1,i1\n", "into 3 columns"),
    case("header_of_three_rows_of_two", HEADER + b"u1,i1\nu2,i2\n", "into 3 columns", "'u1,i1'"),
    case("circumflexes", CSV.replace(b",", b"^"), "no separator", "'u1^i1^1500000000'"),
    case("ebcdic", CSV.decode().encode("cp500"), "no separator"),
]
SHAPES = [
    case("row_too_short", CSV + b"u3,i3\n", 2, 1),
    case("row_too_long", CSV + WIDE, 2, 1),
    case("row_cut_in_the_id", CSV + b"u3", 2, 1),
    case("row_cut_in_the_time", CSV + b"u3,i3,15", 2, 1),
    case("trailing_separator", CSV.replace(b"0\n", b"0,\n").replace(b"1\n", b"1,\n"), 2, 0),
    case("trailing_separator_in_header", HEADER[:-1] + b",\n" + ROWS, 2, 0),
    case("every_row_too_long", HEADER + WIDE * 3, "more than 3 fields", "line 2"),
    case("unquoted_separator_in_id", CSV + b"u3,i,3,1500000000\n", 2, 1),
    case("long_first_line", b"u" * 300_000 + b",i,t\n", "no separator", "uuu"),
    case("log_pasted_twice", CSV + CSV, 4, 1),
    case("comment_line", b"# made by hand\n" + CSV, "no separator"),
]
QUOTES = [
    case("quoted_fields", b'user,item,time\n"u1","i,1",1500000000\n', 1, 0),
    case("doubled_quotes", b'user,item,time\nu1,"i""1",1500000000\n', 1, 0),
    case("line_end_in_quotes", b'user,item,time\nu1,"i\n1",1500000000\n', 1, 0),
    case("quote_inside_a_field", b'user,item,time\nu1,i"1,1500000000\nu2,i2,1500000001\n', 2, 0),
    case("inch_marks", b'user,item,time\nu1,13",1500000000\nu2,15",1500000001\n', 2, 0),
    case("text_after_quotes", b'user,item,time\n"u"1,i,1500000000\nu2,i,1500000001\n', 2, 0),
    case("quote_never_closed", CSV + b'"u3,i3,1500000000\nu4,i4,1500000001\n', "line 4", "closes"),
    case("quote_opened_in_the_first_row", CSV.replace(b"u1", b'"u1', 1), "line 2", "never closes"),
    case("quote_opened_at_the_end", CSV + b'u3,i3,"1500000000\n', "line 4", '"'),
    case("quotes_in_dat", b'"1"::2::3::1500000000\n', 1, 0, file="r.dat"),
    case("single_quotes", b"user,item,time\n'u1','i1',1500000000\n", 1, 0),
    case("quoted_header", b'"user","item","time"\nu1,i1,1500000000\n', 1, 0),
]
FOREIGN = [
    case("zeros", b"\0" * 1000, "no text file"),
    case("random_bytes", bytes(range(256)) * 4, "no text file"),
    case("web_page", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    case("xml", b"<?xml version='1.0'?><log/>", "web page or XML"),
    case("pickle", b"\x80\x04\x95\x10\x00\x00\x00", "Python pickle", "CSV"),
    case("sqlite", b"SQLite format 3\0" + b"\0" * 90, "SQLite"),
    case("bzip2", b"BZh91AY&SY", "bzip2", "bunzip2"),
    case("zstandard", b"\x28\xb5\x2f\xfd\x00", "zstandard"),
    case("git_lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
    case(
        "prose",
        b"It was a bright cold day in April,\nand the clocks were striking.\n",
        "no header",
        "data.user_column",
    ),
    case("nul_in_id", HEADER + b"u1,i\x001,1500000000\n" + ROWS * 50, 100, 1),
]
ALL = [*ENCODINGS, *LINE_ENDS, *EMPTY, *SEPARATORS, *SHAPES, *QUOTES, *FOREIGN]


@pytest.mark.parametrize(("file", "content", "expected", "reading"), ALL)
def test_broken_text(file, content, expected, reading, assert_read_as) -> None:
    assert_read_as(file, content, expected, reading)


def test_unusable_rows_are_told_with_line_text_and_reason(assert_read_as) -> None:
    content = HEADER + b"u1,i1,1500000000\n\nu2,,1500000001\n" + WIDE
    report = assert_read_as("log.csv", content, (1, 2), {})
    assert report.unparsed.rows() == [
        (2, 4, "item_id is missing", "u2,,1500000001"),
        (3, 5, "more than 3 fields", "u1,i1,1500000000,1,2,3"),
    ]
    assert report.num_blank_lines == 1


def test_line_numbers_count_line_ends_inside_quotes(assert_read_as) -> None:
    content = b'user,item,time\nu1,"i\n\n1",1500000000\n"u\n2",i2,\nu3,i3,1500000000\n'
    report = assert_read_as("log.csv", content, (2, 1), {})
    assert report.unparsed.rows() == [(1, 5, "time is missing", '"u\n2",i2,')]


def test_stray_quotes_keep_line_numbers(assert_read_as) -> None:
    content = b'user,item,time\nu1,1"3,1500000000\n\nu2,i2,\nu3,i"3,1500000000\n'
    report = assert_read_as("log.csv", content, (2, 1), {})
    assert report.unparsed.rows() == [(2, 4, "time is missing", "u2,i2,")]
    assert report.num_blank_lines == 1


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (CAFE.encode("latin-1"), "cp1252"),
        (CAFE.encode("latin-1") + b"u\x81,i,1500000000\n", "latin-1"),
        (CAFE.encode("utf-16"), "utf-16"),
        (CAFE.encode(), "utf-8"),
    ],
)
def test_encoding_is_stated(content: bytes, encoding: str, assert_read_as) -> None:
    count = content.count(b"\n") - 1
    report = assert_read_as("log.csv", content, (count, 0), {})
    assert report.encoding == encoding
    assert any(encoding in text for text in report.warnings) == encoding.startswith(("cp", "lat"))
