"""Public packages under diagnosis: builders run where installed; the page says what was seen."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks.packages.__main__ import examine
from benchmarks.packages.case import Case, Verified
from benchmarks.packages.cases import CASES
from benchmarks.public_packages import PAGE, page
from tasks.diagnostics.own_program import OwnProgram
from tests.diagnostics.own_models import BothDirections, Model

QUESTIONS = ("order_and_flow",)


def _case(name: str, model: type, *verified: Verified) -> Case:
    program = OwnProgram(model, declared={"max_seq_len": 12, "batch_size": 32})
    return Case(name, "torch", "torch", "BSD", "made up", program, verified, num_items=30)


def _result(**more: object) -> dict[str, object]:
    finding = {"question": "order_and_flow", "number": "G11", "verdict": "faulty", "text": "Leaks."}
    usual = {"version": "1.0", "counts": {"healthy": 3, "faulty": 1}, "findings": [finding]}
    return {CASES[0].name: {**usual, "checks": [{"value": 0.0, "shown": True}], **more}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_builders_run_where_their_package_is_installed(case: Case) -> None:
    if importlib.util.find_spec(case.module.partition(".")[0]) is None:
        pytest.skip(f"the package {case.distribution} is not installed")
    checks = [(one.claim, one.reproduce()) for one in case.verified]
    assert [claim for claim, value in checks if value is None] == []
    shown = [one.shown(value) for one, (_, value) in zip(case.verified, checks, strict=True)]
    assert all(shown), checks


def test_cases_are_distinct_and_say_why() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(one.claim and one.unit and one.questions for c in CASES for one in c.verified)


def test_a_case_is_examined() -> None:
    why = Verified(QUESTIONS, "true of the package", "it reads both ways", lambda: 2.0, bool, "")
    found = examine(_case("both", BothDirections, why))
    assert found["stage"] == "causal"
    assert "G11" in {finding["number"] for finding in found["findings"]}
    assert found["checks"] == [{"value": 2.0, "shown": True}]


def test_a_sound_case_has_nothing_to_explain() -> None:
    found = examine(_case("plain", Model))
    assert (found["findings"], found["checks"], found["stage"]) == ([], [], None)


def test_the_page_names_what_was_verified_and_what_was_not() -> None:
    text = page(_result())
    row = next(line for line in text.splitlines() if f"`{CASES[0].name}`" in line)
    assert "G11: Leaks." in row
    assert CASES[0].verified[0].claim in row
    assert "not looked into" not in text
    odd = {"question": "x", "number": "X1", "verdict": "suspect", "text": "Odd."}
    assert "X1 (amber): Odd. | not looked into" in page(_result(findings=[odd]))
    assert "**not found**" in page(_result(findings=[]))
    assert "NOT SHOWN" in page(_result(checks=[{"value": 1.0, "shown": False}]))
    assert "not run: no module" in page({CASES[0].name: {"failed": ["no module"]}})


def test_the_page_in_the_repository_covers_every_case(repository) -> None:
    text = (repository / PAGE).read_text(encoding="utf-8")
    assert [case.name for case in CASES if f"`{case.name}`" not in text] == []
    assert "not looked into" not in text
    assert "NOT SHOWN" not in text
