"""What the tables of broken logs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.data.readers import DataError, ReadReport, read_interactions

Expected = tuple[int, int] | tuple[str, ...]
Judge = Callable[[str, bytes, Expected, dict], ReadReport | None]


@pytest.fixture
def assert_read_as(tmp_path: Path) -> Judge:
    """Return a function that writes a log, reads it and checks what came of it.

    Expected is (usable rows, unusable rows), or the texts the refusal must hold besides the name
    of the file.
    """

    def run(file: str, content: bytes, expected: Expected, reading: dict) -> ReadReport | None:
        path = tmp_path / file
        path.write_bytes(content)
        before = sorted(tmp_path.parent.rglob("*"))
        report = None
        if isinstance(expected[0], int):
            frame, report = read_interactions(path, **reading)
            assert (len(frame), len(report.unparsed)) == expected
            assert report.num_rows == sum(expected)
        else:
            with pytest.raises(DataError) as caught:
                read_interactions(path, **reading)
            for text in (file, *expected):
                assert str(text) in str(caught.value)
        assert sorted(tmp_path.parent.rglob("*")) == before
        return report

    return run
