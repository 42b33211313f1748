"""The page of every question is the one its file would make now."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from docs.generate import questions
from tasks.diagnostics.questions import QUESTIONS

PAGES = questions.render()


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_current(name: str, repository: Path) -> None:
    path = repository / questions.FOLDER / name
    committed = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    changed = "\n".join(difflib.unified_diff(committed, PAGES[name].split("\n"), lineterm=""))
    assert not changed, f"{path.name} is out of date; run `make docs` and commit it.\n{changed}"


def test_there_are_no_other_pages(repository: Path) -> None:
    found = {path.name for path in (repository / questions.FOLDER).iterdir()}
    assert found == set(PAGES)
    assert len(PAGES) == len(QUESTIONS) + 1


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_a_page_says_what_a_reader_needs(question, repository: Path) -> None:
    text = PAGES[f"{question.id}.md"]
    assert f"--only {question.number}`" in text
    assert all(f"| {limit.source}" in text for limit in question.limits.values())
    assert all(f"## {part}\n\n" in text for part in questions.PARTS)
    folder = repository / questions.FOLDER
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / target).exists(), target


def test_advice_is_read_from_every_form_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "made_up.py"
    path.write_text(
        'exact("name", 1, limit, "core", "first", f"second {x}", *more)\n'
        'Check("name", advice=("third", "" if y else "fourth"))\n'
        'unrelated("a", "b", "c", "d", "not advice")\n'
    )
    assert sorted(questions.advice(path)) == ["first", "fourth", "second …", "third"]
