"""Rates, judgements and the page, on rows made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.fault_benchmark.kept import keep, read_kept
from tasks.fault_benchmark.kill import Kill, sign_flip_p_value
from tasks.fault_benchmark.plan import Catalogue, Job, clean_job
from tasks.fault_benchmark.report import render
from tasks.fault_benchmark.rows import Red, Row
from tasks.fault_benchmark.score import Rate, as_values, judge, rate, score
from tasks.faults.fault import Fault, HealthyVariant, at
from tasks.faults.labels import asks

FAULT = Fault(
    id="one",
    title="something is wrong",
    layer="data",
    source="somewhere",
    expected=asks("X2"),
    stages=at("order"),
    quiet=asks("X21"),
    settings={"dropout": 0.5},
)
CATALOGUE = Catalogue.of([("listed", [FAULT])], [HealthyVariant("well", "", settings={})])


def _row(kind: str = "listed", id: str = "one", stage: str = "order", **values: object) -> Row:
    reds = tuple(
        Red(question, stage, rule, "")
        for question, rule in values.pop("reds", {"events_in_time_order": "exact"}).items()
    )
    return Row(kind, id, "gru", "synthetic", 0, "code", reds=reds, stage=stage, **values)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 300, 0.0, 0.0126), (300, 300, 0.9874, 1.0), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_intervals(hits: int, total: int, low: float, high: float) -> None:
    assert Rate(hits, total).interval == pytest.approx((low, high), abs=1e-4)


def test_a_rate_of_nothing_says_nothing() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_found_and_placed() -> None:
    verdict = judge(_row(), FAULT, frozenset())
    assert verdict.detected
    assert verdict.localised


def test_a_question_red_on_the_clean_program_detects_nothing() -> None:
    verdict = judge(_row(), FAULT, asks("X2"))
    assert not verdict.detected
    assert not verdict.seen


def test_a_symptom_alone_is_no_detection() -> None:
    verdict = judge(_row(reds={"events_in_time_order": "statistical"}), FAULT, frozenset())
    assert verdict.seen
    assert not verdict.detected


def test_another_question_or_stage_is_no_localisation() -> None:
    other = judge(_row(reds={"gradients_flow": "exact"}), FAULT, frozenset())
    elsewhere = judge(_row(stage="loss"), FAULT, frozenset())
    assert other.detected
    assert not other.localised
    assert elsewhere.expected
    assert not elsewhere.localised


def test_questions_that_must_be_quiet_are_reported() -> None:
    reds = {"events_in_time_order": "exact", "ranking_metrics_right": "oracle"}
    assert judge(_row(reds=reds), FAULT, frozenset()).wrong_reds == ("ranking_metrics_right",)


def test_a_failed_question_is_neither_detection_nor_green() -> None:
    failed = {"reds": {}, "failed": ("events_in_time_order",)}
    assert not judge(_row(**failed), FAULT, frozenset()).detected
    result = score([_row("healthy", "well", **failed)], CATALOGUE, {})
    assert result.alarms[0].questions == ("events_in_time_order",)


def test_a_crashed_healthy_run_is_an_alarm() -> None:
    result = score([_row("healthy", "well", reds={}, crashed="ValueError: no")], CATALOGUE, {})
    assert result.false_alarms.hits == 1


def test_inert_faults_are_counted_apart() -> None:
    kills = {"one": Kill("gru", (), metric_drop=0.0, p_value=0.5)}
    result = score([_row(reds={})], CATALOGUE, kills)
    assert result.of_kind("listed") == []
    assert rate(result.of_kind("listed", with_inert=True), "detected").total == 1


def test_clean_programs_are_matched_by_their_settings() -> None:
    job = Job("listed", "one", "gru", "synthetic", 0)
    clean = clean_job(job, CATALOGUE)
    red_when_clean = _row("clean", clean.id)
    assert not score([_row(), red_when_clean], CATALOGUE, {}).of_kind("listed")[0].seen


def test_five_matched_seeds_out_of_five_are_enough() -> None:
    assert sign_flip_p_value(np.array([0.1, 0.2, 0.1, 0.3, 0.2])) == pytest.approx(1 / 32)
    assert sign_flip_p_value(np.array([0.1, -0.2, 0.1, -0.3, 0.2])) > 0.05


def test_the_page_lists_every_miss_and_alarm() -> None:
    rows = [_row(reds={}), _row("healthy", "well")]
    page = render(
        score(rows, CATALOGUE, {}), {"one": FAULT}, {}, [("X2", "events_in_time_order")], {"a": "b"}
    )
    assert "0/1 = 0.0%" in page
    assert "| `one` | gru, synthetic, seed 0 | missed |" in page
    assert "False alarms:" in page


def test_plain_values_for_scripts_hold_the_rates_and_the_missed() -> None:
    rows = [
        _row(),
        Row("healthy", "well", "gru", "synthetic", 0, "code"),
    ]
    values = as_values(score(rows, CATALOGUE, {}))
    assert json.loads(json.dumps(values))["faults"]["listed"]["localised"]["share"] == 1.0
    assert values["missed"] == []
    assert values["false_alarms"]["hits"] == 0
    assert values["false_alarms"]["total"] == 1
    assert values["untested"] == ["one"]


def test_a_fault_that_changes_nothing_on_one_log_is_inert_there_alone() -> None:
    nothing = Kill("gru", (), metric_drop=0.0, p_value=0.5)
    result = score([_row(reds={})], CATALOGUE, {"one@synthetic": nothing})
    assert result.of_kind("listed") == []
    here = Kill("gru", ("loss",))
    live = score([_row(reds={})], CATALOGUE, {"one": nothing, "one@synthetic": here})
    assert len(live.of_kind("listed")) == 1
    other = score([_row(reds={})], CATALOGUE, {"one@elsewhere": nothing})
    assert len(other.of_kind("listed")) == 1


def test_kept_results_give_the_same_score(tmp_path: Path) -> None:
    rows = [_row(), _row("healthy", "well", reds={})]
    path = tmp_path / "kept.jsonl.gz"
    keep(path, rows)
    first = path.read_bytes()
    keep(path, reversed(rows))
    assert path.read_bytes() == first
    again = score(read_kept(path), CATALOGUE, {})
    assert rate(again.of_kind("listed"), "localised").hits == 1
    assert again.false_alarms.total == 1


def test_no_kept_results_are_no_rows(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "none.jsonl.gz") == []


def test_the_page_says_what_stays_open_and_names_published_tools() -> None:
    rows = [_row(), _row("healthy", "well", reds={}, undetermined=("loss_falls",))]
    page = render(
        score(rows, CATALOGUE, {}), {"one": FAULT}, {}, [("X2", "events_in_time_order")], {"a": "b"}
    )
    assert "| exact | 1/50 = 2.0%" in page
    assert "TrainCheck" in page
    assert "Runs with a crashed check: 0/2" in page
