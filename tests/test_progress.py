"""Long stages say how far they are; fast ones say nothing."""

from __future__ import annotations

import io

from tasks.progress import Progress


def test_time_left_follows_from_time_spent() -> None:
    now, stream = [100.0], io.StringIO()
    progress = Progress("prepare", stream, clock=lambda: now[0])
    now[0] += 1.0
    progress.at(0.1)
    assert stream.getvalue() == "", "the first two seconds are silent"
    now[0] += 19.0
    progress.at(0.25)
    progress.at(0.26)
    assert stream.getvalue() == "prepare: 25% done, about 1:00 min left\n"


def test_the_end_is_not_announced() -> None:
    now, stream = [0.0], io.StringIO()
    progress = Progress("prepare", stream, clock=lambda: now[0])
    now[0] = 60.0
    progress.at(1.0)
    assert stream.getvalue() == ""
