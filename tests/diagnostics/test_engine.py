"""Running questions: crashes, missing parts, bugs, correction for number, headline."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tasks.diagnostics.engine import (
    answer,
    correct_for_number,
    diagnose_findings,
    exit_code,
    run_questions,
)
from tasks.diagnostics.finding import Check, Limit, conclude
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import DiagnosisError, NotApplicableError
from tasks.diagnostics.questions import QUESTIONS, loss_fits_task


def crash(*arguments: object) -> None:
    raise RuntimeError("size mismatch")


def test_a_healthy_program_is_healthy(healthy: Probe) -> None:
    diagnosis = run_questions(healthy, QUESTIONS)
    assert [f.number for f in diagnosis.findings if f.verdict in ("suspect", "faulty")] == []
    assert diagnosis.headline.startswith("Nothing found")
    assert json.dumps(diagnosis.to_json(), allow_nan=False)


def test_a_crash_of_an_owned_part_is_a_fault_and_of_another_part_is_not(toy) -> None:
    question = loss_fits_task.QUESTION
    assert answer(question, Probe(toy(loss=crash))).verdict == "faulty"
    finding = answer(question, Probe(toy(logits=crash)))
    assert finding.verdict == "undetermined"
    assert "size mismatch" in finding.sentence


def test_a_missing_part_leaves_the_question_open(toy) -> None:
    finding = answer(loss_fits_task.QUESTION, Probe(toy(loss=None)))
    assert finding.verdict == "undetermined"
    assert "offers no `loss`" in finding.sentence


def test_a_proof_makes_a_question_not_applicable(toy) -> None:
    def proven(probe: Probe) -> None:
        raise NotApplicableError("no negatives are drawn")

    question = dataclasses.replace(loss_fits_task.QUESTION, measure=proven)
    assert answer(question, Probe(toy())).verdict == "not_applicable"


def test_a_bug_of_a_question_fails_the_run_but_not_the_other_questions(toy) -> None:
    def bug(probe: Probe) -> None:
        raise KeyError("ours")

    broken = dataclasses.replace(loss_fits_task.QUESTION, id="broken", measure=bug)
    with pytest.raises(DiagnosisError, match="broken") as raised:
        run_questions(Probe(toy()), (broken, loss_fits_task.QUESTION))
    assert "KeyError" in raised.value.failures["broken"]
    assert [f.question for f in raised.value.diagnosis.findings] == ["loss_fits_task"]


def test_a_question_beyond_the_budget_names_the_command(toy) -> None:
    deep = dataclasses.replace(loss_fits_task.QUESTION, mode="deep")
    finding = answer(deep, Probe(toy(), "exact"))
    assert finding.verdict == "undetermined"
    assert finding.advice[0] == f"run `assay diagnose --deep --only {deep.number}`"


def statistical(p_value: float):
    limit = Limit(0.1, "floor")
    check = Check("gap", 1.0, "", limit, "symptom", "statistical", p_value=p_value)
    return conclude("q", "G0", "?", (check,), {})


def test_holm_keeps_the_report_at_one_percent() -> None:
    verdicts = [f.verdict for f in correct_for_number(tuple(map(statistical, (0.004, 0.006))))]
    assert verdicts == ["faulty", "faulty"]
    verdicts = [f.verdict for f in correct_for_number(tuple(map(statistical, (0.006, 0.004, 0.9))))]
    assert verdicts == ["healthy", "healthy", "healthy"]


def test_exit_codes() -> None:
    diagnosis = diagnose_findings("x", "exact", [statistical(1e-9)])
    assert [exit_code(diagnosis, level) for level in ("never", "faulty", "suspect")] == [0, 1, 1]
    with pytest.raises(ValueError, match="fail_on"):
        exit_code(diagnosis, "always")


def test_what_is_only_suspect_neither_explains_a_fault_nor_comes_before_it() -> None:
    limit = Limit(0.0, "made up")
    suspect = Check("early", 1.0, "", limit, "core", "exact", breach="suspect")
    faulty = Check("late", 1.0, "", limit, "activation", "exact", explained_by=("core",))
    findings = [conclude(name, "G1", name, (c,), {}) for name, c in (("a", suspect), ("b", faulty))]
    diagnosis = diagnose_findings("made up", "exact", findings)
    assert (diagnosis.stage, diagnosis.question) == ("activation", "b")
