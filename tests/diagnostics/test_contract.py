"""What every question promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tasks.diagnostics import questions
from tasks.diagnostics.engine import answer, run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.stages import STAGES
from tasks.diagnostics.subject import Subject, Trained
from tests.diagnostics.conftest import make_log

COSTLY = [question for question in QUESTIONS if question.mode != "exact"]
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


@pytest.mark.parametrize("question", COSTLY, ids=lambda q: q.id)
def test_what_costs_more_than_allowed_names_the_command_that_settles_it(
    question: Question, toy: Callable[..., Subject]
) -> None:
    finding = answer(question, Probe(toy(), "exact"))
    assert finding.verdict == "undetermined"
    alone = f"run `assay diagnose --deep --only {question.number}`"
    expected = {"deep": alone, "after_training": "train the model, then run `assay diagnose`"}
    assert expected[question.mode] in finding.advice


def test_asking_all_questions_changes_no_loss_of_a_training(toy: Callable[..., Subject]) -> None:
    """Dropout is on, so a single random number taken would show in the next loss."""

    def losses(ask: bool) -> list[float]:
        subject = toy()
        prepared = subject.prepared()
        torch.manual_seed(0)
        model = subject.build_model(prepared.data.num_items, 0)
        optimizer = subject.make_optimizer(model)
        found: list[float] = []
        for epoch in range(2):
            for batch in subject.make_batches(prepared, 0, epoch):
                found.append(float(subject.train_step(subject.loss, model, optimizer, batch)))
            if ask:
                rows = tuple({"epoch": n + 1, "train/loss": loss} for n, loss in enumerate(found))
                trained = Trained(model=model, epochs=rows)
                run_questions(Probe(subject.replace(trained=trained), "after_training"), QUESTIONS)
        return found

    assert losses(ask=True) == losses(ask=False)


@pytest.mark.parametrize("num_items", [3, 6])
def test_a_catalogue_of_a_few_items_fails_no_question(toy, num_items: int) -> None:
    log = make_log(num_users=24, num_items=num_items)
    diagnosis = run_questions(Probe(toy(log=log), "exact"), QUESTIONS)
    assert len(diagnosis.findings) == len(QUESTIONS)
    broken = {finding.stage for finding in diagnosis.findings if finding.verdict == "faulty"}
    assert broken <= {"distribution"}
