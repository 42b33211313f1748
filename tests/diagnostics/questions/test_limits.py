"""Every limit of every question decides: at it a program is healthy, just beyond it it is not.

Evidence is what the healthy programs give; each limit is then moved to the measured number. What
trains models is given by hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements.anchor import Anchor
from tasks.diagnostics.measurements.ladder import Ladder
from tasks.diagnostics.measurements.overfit import Overfit
from tasks.diagnostics.measurements.plain_lstm import PlainLSTM
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS, strip_down_ladder, xlstm_overfits_one_user
from tests.diagnostics.test_pipeline_subject import make_subject

MEMORISED = Overfit(
    own=0.05,
    any_rate=0.05,
    any_optimiser=0.05,
    any_loss=0.05,
    best_rate=1.0,
    steps=300,
    floor=0.1,
    uniform=3.0,
    num_rows=8,
    num_targets=80,
    seeds=1,
    budget=100,
)
BY_HAND: dict[str, Any] = {
    "overfits_small_subset": MEMORISED,
    "xlstm_overfits_one_user": xlstm_overfits_one_user.Evidence(MEMORISED, None),
    "baseline_confirms_pipeline": Anchor(0.9, 1.0, 0.5, 0.1, 600),
    "lstm_learns": PlainLSTM(0.8, 1.0, None, 0.9, 1e-9, 600),
    "strip_down_ladder": strip_down_ladder.Evidence((), "", Ladder(0.8, 0.8, "", 18, 0.9)),
}
every_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)


@pytest.fixture(scope="session")
def evidence_of(healthy_trained: Probe) -> Callable[[Question], Any]:
    """What a healthy program shows: the small one, or the pipeline's where that lacks it."""
    others = (
        Probe(make_subject("xlstm")),
        Probe(make_subject("gru", loss="sampled_softmax", num_negatives=20)),
    )

    def find(question: Question) -> Any:
        if question.id in BY_HAND:
            return BY_HAND[question.id]
        for probe in (healthy_trained, *others):
            try:
                evidence = probe.evidence(question.measure)
            except NotApplicableError:
                continue
            if numbers(question.judge(evidence, question.limits)):
                return evidence
        raise AssertionError(f"no healthy program gives {question.id} a number to judge")

    return find


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
def test_at_its_limit_a_check_is_healthy_and_beyond_it_is_not(
    question: Question, evidence_of: Callable[[Question], Any]
) -> None:
    evidence = evidence_of(question)
    checks = [
        check
        for check in numbers(question.judge(evidence, question.limits))
        if any(check.limit is limit for limit in question.limits.values())
    ]
    assert checks
    for check in checks:
        towards = -math.inf if check.relation == "at_most" else math.inf
        assert not moved(question, evidence, check, float(check.value)).broken, check.name
        assert moved(
            question, evidence, check, math.nextafter(float(check.value), towards)
        ).broken, check.name


@every_question
def test_a_broken_check_turns_the_question_red_and_brings_advice(
    question: Question, evidence_of: Callable[[Question], Any]
) -> None:
    finding = question.judge(evidence_of(question), question.limits)
    assert numbers(finding)
    for check in numbers(finding):
        limit = Limit(check.value + (-1 if check.relation == "at_most" else 1), "beyond it")
        red = dataclasses.replace(check, limit=limit, significant=True)
        made = question.finding(None, red)
        assert made.verdict == check.breach
        assert made.stage == check.stage
        assert made.advice, check.name
