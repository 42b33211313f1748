"""Questions the benchmark's runner reaches last are turned red by planted faults when asked alone.

The runner stops at the first proof, and faults that these questions would show are shown by cheaper
ones first.
"""

from __future__ import annotations

import pytest

from tasks.diagnostics.engine import run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS
from tasks.fault_benchmark.asked_alone import ASKED_ALONE
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.plan import Catalogue
from tasks.fault_benchmark.runner import log_source, with_data_ready


@pytest.mark.long
@pytest.mark.parametrize("id", sorted(ASKED_ALONE))
def test_planted_fault_turns_the_question_red(id):
    [question] = [question for question in QUESTIONS if question.id == id]
    fault, model, settings = ASKED_ALONE[id]
    _, planted = Catalogue.load().faults[fault]
    settings = {**planted.needs, **planted.settings, **settings}
    clean = clean_subject(log_source("synthetic"), model, 0, settings)
    subject = with_data_ready(planted.plant(clean))
    subject = subject.replace(trained=subject.train(subject, 0))
    [finding] = run_questions(Probe(subject, "deep", seed=0), (question,)).findings
    assert finding.verdict == "faulty", finding.sentence
