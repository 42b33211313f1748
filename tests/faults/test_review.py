"""The twelve defects around a review of a public xLSTM: found and placed before any training."""

from __future__ import annotations

import pytest

from tasks.diagnostics.engine import run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.logs import SYNTHETIC
from tasks.faults import FAULTS
from tasks.faults.review import DEFECTS, FIXED, LEFT, MISSED

BY_ID = {fault.id: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def xlstm() -> Subject:
    """The pipeline's xLSTM on a small log, untrained."""
    return clean_subject(SYNTHETIC, "xlstm", 0, {"num_users": 40})


def test_six_were_fixed_one_was_left_and_five_were_missed() -> None:
    assert (len(FIXED), len(LEFT), len(MISSED)) == (6, 1, 5)
    assert len(set(DEFECTS)) == 12


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_red_where_it_sits_before_any_training(name: str, xlstm: Subject) -> None:
    fault = BY_ID[name]
    planted = fault.plant(xlstm)
    assert planted.trained is None
    asked = [question for question in QUESTIONS if question.id in fault.expected]
    diagnosis = run_questions(Probe(planted, "exact"), asked)
    red = [finding for finding in diagnosis.findings if finding.verdict == "faulty"]
    assert red, diagnosis.headline
    assert diagnosis.stage in fault.stages, diagnosis.headline


@pytest.mark.long
@pytest.mark.parametrize("name", DEFECTS)
def test_the_whole_report_blames_the_defect_s_stage(name: str, xlstm: Subject) -> None:
    fault = BY_ID[name]
    diagnosis = run_questions(Probe(fault.plant(xlstm), "exact"), QUESTIONS)
    assert diagnosis.stage in fault.stages, diagnosis.headline
    assert diagnosis.question in fault.expected, diagnosis.headline


def test_the_clean_program_is_red_in_none_of_their_questions(xlstm: Subject) -> None:
    wanted = frozenset().union(*(BY_ID[name].expected for name in DEFECTS))
    asked = [question for question in QUESTIONS if question.id in wanted]
    diagnosis = run_questions(Probe(xlstm, "exact"), asked)
    assert diagnosis.stage is None, diagnosis.headline
