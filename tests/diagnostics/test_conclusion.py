"""The first line and the next step, whatever was found."""

from __future__ import annotations

import dataclasses

from tasks.diagnostics.conclusion import calls_for_interventions, with_options
from tasks.diagnostics.engine import Diagnosis, diagnose_findings
from tasks.diagnostics.finding import Check, Limit, conclude
from tasks.diagnostics.question import COMMANDS

LIMIT = Limit(0.0, "made up for the test")


def diagnosis(*checks: Check) -> Diagnosis:
    findings = [
        conclude(f"question_{number}", f"G{number}", "?", (check,), {})
        for number, check in enumerate(checks, start=1)
    ]
    return diagnose_findings("made up", "after_training", findings)


def broken(stage: str, verdict: str = "faulty") -> Check:
    return Check(
        "rows", 2.0, "", LIMIT, stage, "intervention", breach=verdict, advice=("count", "again")
    )


def missing(text: str) -> Check:
    return Check("rows", None, "", LIMIT, "core", "exact", missing=text)


def test_a_fault_is_named_with_stage_evidence_and_next_test() -> None:
    made = diagnosis(broken("symptom"), broken("align"))
    assert made.headline.startswith("Most probable fault: stage align (G2 question_2). Rows is 2 ")
    assert made.headline.endswith(" Cheapest next test: count.")
    assert made.next_test == "count"
    assert not calls_for_interventions(made)


def test_a_suspicion_and_a_symptom_are_called_that() -> None:
    assert diagnosis(broken("align", "suspect")).headline.startswith("Most suspicious: stage align")
    alone = diagnosis(broken("symptom"))
    assert alone.headline.startswith("A symptom without a known cause (G1 question_1)")
    assert calls_for_interventions(alone)
    described = dataclasses.replace(broken("symptom", "suspect"), rule="descriptive")
    assert not calls_for_interventions(diagnosis(described))
    assert calls_for_interventions(diagnosis(described, broken("symptom", "suspect")))


def test_nothing_found_says_how_much_is_open_and_what_is_cheapest() -> None:
    deep, data = missing(COMMANDS["deep"]), missing("20 test examples; there are 3")
    train = missing("a finished training; " + COMMANDS["after_training"])
    assert diagnosis(deep).headline == (
        "Nothing found: 0 questions healthy, 1 undetermined, 0 not applicable."
    )
    assert diagnosis(deep, data, train).next_test == COMMANDS["after_training"]
    assert diagnosis(deep, data).next_test == (
        "give what is missing: 20 test examples; there are 3"
    )
    assert diagnosis(deep).next_test == COMMANDS["deep"]
    assert diagnosis(Check("rows", 0.0, "", LIMIT, "core", "exact")).next_test == ""
    assert not calls_for_interventions(diagnosis(deep))


def test_commands_can_be_typed_as_they_are() -> None:
    made = with_options(diagnosis(missing(COMMANDS["deep"])), "--name small")
    assert made.next_test == "run `assay diagnose --name small --deep`"
    (finding,) = made.findings
    assert finding.advice == ("run `assay diagnose --name small --deep --only G1`",)
    assert "`assay diagnose --name small --deep`" in finding.sentence
