"""What comes from a user's data steers no terminal."""

from __future__ import annotations

import pytest

from flows.explain_command import explained_text
from flows.follow_command import _shown
from flows.recommend_command import as_text

HOSTILE = "\x1b]0;owned\x07\x9b2J\rname\u202e"


def document() -> dict:
    return {
        "label": HOSTILE,
        "answered_by": "gru",
        "events": 2,
        "notes": [f"unknown item {HOSTILE} was left out"],
        "recommended": [{"item": HOSTILE, "name": f"Film {HOSTILE}", "score": 1.0}],
    }


def explained() -> dict:
    event = {"item": HOSTILE, "time": "", "influence": 0.5, "gradient": None}
    return {"recommended": [{"item": HOSTILE}], "history": [event]}


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        pytest.param(lambda: as_text(document()), 3, id="answer"),
        pytest.param(lambda: _shown(document(), as_json=False), 1, id="stream"),
        pytest.param(lambda: explained_text(explained()), 3, id="explanation"),
    ],
)
def test_hostile_names_are_shown_by_their_codes(made, lines):
    shown = made()
    assert r"\x1b]0;owned\x07\x9b2J\rname\u202e" in shown
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    assert len(shown.splitlines()) == lines


def test_names_of_every_language_stay_as_they_are():
    names = "Amélie, 千と千尋, می‌خواهم, 👩‍🚀"
    film = {"item": "1", "name": names, "score": 1.0}
    assert names in as_text(document() | {"recommended": [film]})
