"""Checks, findings and blame."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tasks.diagnostics.finding import Check, Limit, conclude, roots

LIMIT = Limit(1.0, "made up")


def check(value: float | None = 2.0, **changes: object) -> Check:
    made = Check("length", value, "m", LIMIT, "loss", "exact", missing="" if value else "a ruler")
    return dataclasses.replace(made, **changes)


def finding(*checks: Check):
    return conclude("length_right", "G0", "Is it short?", checks, {})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"value": 1.0}, "healthy"),
        ({"value": 1.0 + 1e-12}, "faulty"),
        ({"value": float("nan")}, "faulty"),
        ({"value": 2.0, "breach": "suspect"}, "suspect"),
        ({"value": 2.0, "proof": "it has none"}, "not_applicable"),
        ({"value": None, "missing": "a ruler"}, "undetermined"),
        ({"value": 2.0, "p_value": 0.5}, "healthy"),
        ({"value": 2.0, "p_value": 1e-9}, "faulty"),
        ({"value": 2.0, "p_value": 1e-9, "significant": False}, "healthy"),
        ({"value": 0.5, "p_value": 1e-9}, "healthy"),
        ({"value": 0.5, "relation": "at_least"}, "faulty"),
    ],
)
def test_a_check_compares_its_value(changes: dict, verdict: str) -> None:
    assert check(**changes).verdict == verdict


def test_a_check_without_value_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="no value"):
        check(value=None, missing="")


def test_a_description_is_never_faulty() -> None:
    with pytest.raises(ValueError, match="descriptive"):
        check(rule="descriptive")


def test_the_worst_check_decides() -> None:
    assert finding(check(0.5), check(2.0, breach="suspect"), check(2.0)).verdict == "faulty"
    assert finding(check(0.5), check(None)).verdict == "undetermined"
    assert finding(check(0.5), check(None, essential=False)).verdict == "healthy"
    assert finding(check(2.0, proof="none")).verdict == "not_applicable"
    assert finding(check(None, essential=False)).verdict == "undetermined"


def test_a_cause_is_blamed_before_its_consequence_and_an_early_stage_before_a_late_one() -> None:
    late, early = check(stage="metric"), check(stage="order")
    assert roots([late, early])[0] is early
    consequence = check(stage="pad", explained_by=("causal",))
    cause = check(stage="causal")
    assert roots([consequence, cause])[0] is cause
    assert roots([consequence])[0] is consequence
    soft = check(stage="order", rule="statistical")
    assert roots([soft, late])[0] is late
    assert roots([check(stage="symptom"), late])[0] is late


def test_a_finding_says_number_limit_source_and_place() -> None:
    made = finding(check(2.0, where="row 3", advice=("cut it",)))
    assert made.sentence == "Length is 2 m (at most 1: made up); first seen at row 3."
    assert made.advice == ("cut it",)
    assert finding(check(None)).advice == ("a ruler",)
    deep = check(None, missing="run `assay diagnose --deep`")
    assert finding(deep).advice == ("run `assay diagnose --deep --only G0`",)


def test_json_holds_every_number() -> None:
    form = finding(check(float("nan"))).to_json()
    assert json.loads(json.dumps(form, allow_nan=False))["checks"][0]["value"] == "NaN"
    assert form["checks"][0]["verdict"] == "faulty"
