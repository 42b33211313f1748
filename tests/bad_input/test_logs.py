"""Every broken log of the readers' tables, through the commands a user runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.settings import settings_from_dict, write_params
from tests.bad_input.conftest import Command, assert_refused
from tests.data.readers import (
    test_broken_archives as archives,
)
from tests.data.readers import (
    test_broken_text as text,
)
from tests.data.readers import (
    test_broken_values as values,
)
from tests.data.readers import (
    test_json_lines as json_lines,
)
from tests.data.readers import (
    test_parquet as parquet,
)

TABLES = {
    "archive": archives.CASES,
    "text": text.ALL,
    "value": [*values.COLUMNS, *values.IDS, *values.TIMES, *values.RATINGS],
    "json": json_lines.CASES,
    "parquet": parquet.CASES,
}
LOGS = [
    pytest.param(*case.values, id=f"{table}-{case.id}")
    for table, cases in TABLES.items()
    for case in cases
    # A separator is found, not set.
    if "separator" not in case.values[3]
]
TOO_SMALL = ("data.", "min_user_events", "no event", "events", "users", "items")
"""What a legal log of two rows is refused with: it can't be split."""


def prepare(place: Path, file: str, content: bytes, reading: dict[str, Any]) -> None:
    (place / file).write_bytes(content)
    data = {"source": "file", "path": file, "min_user_events": 1, "max_quarantine_share": 1.0}
    settings = {"data": {**data, **reading}, "tracking": {"enabled": False}}
    write_params(settings_from_dict(settings), place / "params.yaml")


@pytest.mark.parametrize(("file", "content", "expected", "reading"), LOGS)
def test_a_broken_log_is_refused_or_loads(
    file: str, content: bytes, expected: tuple, reading: dict, place: Path, stage: Command
) -> None:
    prepare(place, file, content, reading)

    fetched = stage("fetch")
    ended = stage("prepare") if fetched.code == 0 else fetched

    if isinstance(expected[0], str):
        assert_refused(ended, file, *expected)
        assert not (place / "data" / "prepared").exists()
    elif ended.code == 0:
        assert (place / "data" / "prepared" / "manifest.json").is_file()
    else:
        assert_refused(ended)
        assert any(word in ended.said for word in TOO_SMALL), ended.said


PREVIEWED = [case for case in LOGS if not case.values[3]]


@pytest.mark.parametrize(("file", "content", "expected", "reading"), PREVIEWED[::8])
def test_a_preview_agrees(
    file: str, content: bytes, expected: tuple, reading: dict, place: Path, assay: Command
) -> None:
    (place / file).write_bytes(content)

    ended = assay("data", "preview", file)

    if isinstance(expected[0], str):
        assert_refused(ended, file, *expected)
    else:
        assert ended.code == 0
        assert f"{expected[0]:,} usable rows" in ended.said
