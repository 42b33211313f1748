"""Anything at all as a log, a settings file or an override: read, or refused with a message."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.data.readers import DataError, read_interactions
from tasks.settings import (
    SettingsError,
    apply_overrides,
    load_settings,
    read_params,
    settings_from_dict,
)

NAMES = st.sampled_from(["log.csv", "log.tsv", "log.dat", "log.inter", "log.jsonl", "log"])
CELLS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["u1", "i1", "1500000000", "", "nan", "-1", "1e999", "2015-02-30", '"', "\\"]),
    st.integers(-(10**25), 10**25).map(str),
    st.floats().map(str),
)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=8)


def assert_read_or_refused(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            frame, report = read_interactions(path)
        except DataError as error:
            assert name in str(error) or "data." in str(error)
        else:
            assert len(frame) + len(report.unparsed) == report.num_rows
            assert frame["timestamp"].null_count() == 0


@settings(derandomize=True, deadline=None, max_examples=150)
@given(NAMES, st.binary(max_size=300))
@example("log.csv", b"PK\x03\x04")
@example("log.csv", b"\x1f\x8b\x08")
@example("log.jsonl", b"{" * 2000)
@example("log", b"PAR1\0\0\0\0PAR1")
def test_any_bytes_as_a_log(name: str, content: bytes) -> None:
    assert_read_or_refused(name, content)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(NAMES, st.sampled_from([",", "\t", ";", "|", "::", " "]), TABLES, st.booleans())
@example("log.csv", ",", [["u", "i", "9" * 400]], True)
@example("log.csv", ",", [["u\0", "i", "1500000000"]], True)
def test_any_table_as_a_log(
    name: str, separator: str, rows: list[list[str]], has_header: bool
) -> None:
    lines = [["user_id", "item_id", "timestamp"], *rows] if has_header else rows
    text = "\n".join(separator.join(row) for row in lines)
    assert_read_or_refused(name, text.encode("utf-8", errors="surrogatepass"))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.binary(max_size=200))
@example(b"a: &a [*a]")
@example(b"data: &d {synthetic: *d}")
@example(b"? [1, 2]\n: 3")
@example(b"a: 0x" + b"f" * 5000)
@example(b"a: " + b"9" * 5000)
@example(b"a: 9999-99-99")
@example(b"a: 2001-01-01T99:00:00Z")
def test_any_bytes_as_settings(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(content)
        try:
            load_settings(path)
        except SettingsError as error:
            assert "params.yaml" in str(error)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=30), st.text(max_size=30))
@example("train.gru.dropout", "1" + "0" * 400)
@example("data", "{}")
@example("data.synthetic", "&a {seed: *a}")
def test_any_text_as_an_override(key: str, value: str) -> None:
    try:
        settings_from_dict(apply_overrides({}, [f"{key}={value}"]))
    except SettingsError as error:
        assert str(error)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
def test_settings_from_a_device_are_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=path):
        read_params(Path(path))
