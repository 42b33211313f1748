"""What every question promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.diagnostics import questions
from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.stages import STAGES
from tasks.diagnostics.subject import Subject

every_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)

DOCSTRING_PARTS = (
    "Reads:",
    "Rule:",
    "Limits:",
    "The same picture from elsewhere:",
    "It can't tell:",
)


def test_one_file_per_question_and_one_question_per_file() -> None:
    folder = Path(questions.__file__).parent
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert files == sorted(question.id for question in QUESTIONS)


def test_numbers_are_distinct_and_in_order() -> None:
    numbers = [(q.number[0], int(q.number[1:])) for q in QUESTIONS]
    assert numbers == sorted(set(numbers))
    assert all(letter in "GX" and 1 <= number <= 25 for letter, number in numbers)


@every_question
def test_the_docstring_tells_how_the_answer_is_found(question: Question) -> None:
    text = getattr(questions, question.id).__doc__
    assert text.startswith(f"{question.number}. ")
    assert [part for part in DOCSTRING_PARTS if part not in text] == []


@every_question
def test_limits_state_their_source(question: Question) -> None:
    assert question.limits
    assert all(len(limit.source) > 10 for limit in question.limits.values())
    assert set(question.stages) <= set(STAGES)


@every_question
def test_quiet_on_the_healthy_program(question: Question, healthy: Probe) -> None:
    finding = answer(question, healthy)
    assert finding.verdict not in ("faulty", "suspect"), finding.sentence
    if finding.verdict == "undetermined":
        assert finding.advice


@every_question
def test_checks_blame_only_the_stages_listed(question: Question, healthy: Probe) -> None:
    finding = answer(question, healthy)
    assert {check.stage for check in finding.checks} <= set(question.stages)


@every_question
def test_undetermined_where_the_program_offers_nothing(question: Question) -> None:
    finding = answer(question, Probe(Subject("empty"), "deep"))
    assert finding.verdict in ("undetermined", "not_applicable"), finding.sentence
