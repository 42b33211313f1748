"""Every limit of every question decides: at it a program is healthy, just beyond it it is not.

Evidence is what healthy programs give, completed by hand where none of the quick ones has a number.
Every check of every question comes with a number here, and every limit is seen to decide.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from tasks.diagnostics.finding import Check, Finding, Limit, Repeat
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS
from tests.diagnostics.questions.by_hand import COMPLETED, WHOLE
from tests.diagnostics.questions.conftest import train_toy
from tests.diagnostics.test_pipeline_subject import make_subject

Seen = list[tuple[Any, Check]]
"""Checks with a number, each once, with the evidence they were made of."""

every_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)


@pytest.fixture(scope="session")
def evidence_of(healthy_trained: Probe) -> Callable[[Question], list[Any]]:
    """What healthy programs show: the small one, and the pipeline's with times and negatives."""

    def trained(model: str, section: dict | None = None, **shared: Any) -> Probe:
        subject = make_subject(model, section, **shared)
        return Probe(subject.replace(trained=train_toy(subject, 0, epochs=6)), "after_training")

    negatives = {"num_negatives": 20, "collisions": "exclude_positives"}
    probes = (
        healthy_trained,
        trained("xlstm", {"time_gaps": True}),
        trained("gru", loss="sampled_softmax", **negatives),
    )

    def find(question: Question) -> list[Any]:
        if question.id in WHOLE:
            return [WHOLE[question.id]]
        found = []
        for probe in probes:
            try:
                found.append(probe.evidence(question.measure))
            except (NotApplicableError, NotMeasuredError):
                continue
        if question.id in COMPLETED:
            found.append(COMPLETED[question.id](found[0]))
        return found

    return find


@pytest.fixture(scope="session")
def seen(evidence_of: Callable[[Question], list[Any]]) -> Callable[[Question], Seen]:
    """The checks of a question, by the first evidence that gives each of them a number."""

    def find(question: Question) -> Seen:
        found: dict[str, tuple[Any, Check]] = {}
        for evidence in evidence_of(question):
            for check in numbers(question.judge(evidence, question.limits)):
                found.setdefault(key(check), (evidence, check))
        return list(found.values())

    return find


def key(check: Check) -> str:
    """Name without the numbers of the program it was made for."""
    return "".join(letter for letter in check.name if not letter.isdigit())


def numbers(finding: Finding) -> list[Check]:
    measured = [c for c in finding.checks if c.value is not None and not c.proof]
    return [check for check in measured if math.isfinite(check.value)]


def moved(question: Question, evidence: Any, check: Check, value: float) -> Check:
    """Judge again with the limit of one check somewhere else; return that check."""
    limits = {
        name: dataclasses.replace(limit, value=value) if limit is check.limit else limit
        for name, limit in question.limits.items()
    }
    assert limits != question.limits or value == check.limit.value
    judged = question.judge(evidence, limits).checks
    (same,) = [other for other in judged if other.name == check.name]
    # Whether a number is beyond its limit is one thing, whether chance explains it another.
    return dataclasses.replace(same, p_value=None) if same.p_value is not None else same


@every_question
def test_every_check_comes_with_a_number(
    question: Question,
    evidence_of: Callable[[Question], list[Any]],
    seen: Callable[[Question], Seen],
) -> None:
    all_checks = {
        key(check)
        for evidence in evidence_of(question)
        for check in question.judge(evidence, question.limits).checks
    }
    assert all_checks - {key(check) for _, check in seen(question)} == set()


@every_question
def test_at_its_limit_a_check_is_healthy_and_beyond_it_is_not(
    question: Question, seen: Callable[[Question], Seen]
) -> None:
    checks = seen(question)
    assert checks
    for evidence, check in checks:
        value = float(check.value)
        towards = -math.inf if check.relation == "at_most" else math.inf
        beyond = math.nextafter(value, towards)
        if any(check.limit is limit for limit in question.limits.values()):
            assert not moved(question, evidence, check, value).broken, check.name
            assert moved(question, evidence, check, beyond).broken, check.name
            continue
        # A limit that is worked out from the question's own ones, or from the program.
        certain = dataclasses.replace(check, p_value=None)
        at, just = (
            dataclasses.replace(certain, limit=dataclasses.replace(check.limit, value=limit))
            for limit in (value, beyond)
        )
        assert (at.broken, just.broken) == (False, True), check.name


@every_question
def test_what_is_judged_by_chance_says_how_likely_it_is(
    question: Question, seen: Callable[[Question], Seen]
) -> None:
    """Only then Holm's correction counts it; the limit is the floor of its effect."""
    by_chance = [check for _, check in seen(question) if check.rule == "statistical"]
    assert all(0.0 <= check.p_value <= 1.0 for check in by_chance)
    for check in by_chance:
        far = dataclasses.replace(check, value=-1e9 if check.relation == "at_least" else 1e9)
        assert not dataclasses.replace(far, p_value=1.0).broken
        assert not dataclasses.replace(far, p_value=0.0, significant=False).broken
        assert dataclasses.replace(far, p_value=0.0).broken


@every_question
def test_every_limit_has_a_say(
    question: Question, evidence_of: Callable[[Question], list[Any]]
) -> None:
    def told(evidence: Any, limits: dict[str, Limit]) -> list[tuple]:
        checks = question.judge(evidence, limits).checks
        return [(check.value, check.limit.value, check.proof, check.missing) for check in checks]

    for name, limit in question.limits.items():
        changed = [
            {**question.limits, name: dataclasses.replace(limit, value=limit.value + far)}
            for far in (1 + abs(limit.value), -1 - abs(limit.value))
        ]
        assert any(
            told(evidence, limits) != told(evidence, dict(question.limits))
            for evidence in evidence_of(question)
            for limits in changed
        ), f"{question.id} never looks at its limit {name!r}"


@every_question
def test_a_broken_check_turns_the_question_red_and_brings_advice(
    question: Question, seen: Callable[[Question], Seen]
) -> None:
    checks = seen(question)
    assert checks
    for _, check in checks:
        limit = Limit(check.value + (-1 if check.relation == "at_most" else 1), "beyond it")
        red = dataclasses.replace(check, limit=limit, significant=True)
        if check.by_training:
            assert question.finding(None, red).verdict == "suspect"
            red = dataclasses.replace(red, repeat=Repeat(check.value, 0.0))
        made = question.finding(None, red)
        assert made.verdict == check.breach
        assert made.stage == check.stage
        assert made.advice, check.name
