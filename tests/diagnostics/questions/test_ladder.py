"""X25: rungs beside the full model, and the one where learning starts."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import ladder
from tasks.diagnostics.measurements.ladder import compare_rungs
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import strip_down_ladder
from tasks.diagnostics.questions.strip_down_ladder import Evidence
from tasks.diagnostics.rungs import RUNGS
from tests.diagnostics.test_pipeline_subject import make_subject


def of_rungs(**shares: float) -> ladder.Ladder:
    """Rungs that gain 0.5 where nothing else is said, by 200 users who differ a little."""
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    by_rung = {rung: shares.get(rung, 0.5) + noise for rung in RUNGS}
    return compare_rungs(by_rung["full"], by_rung, scale=0.5)


def test_every_rung_stands_beside_the_full_one_with_an_interval() -> None:
    found = of_rungs(vanilla_rnn=0.25)
    assert [gain.rung for gain in found.gains] == list(RUNGS)
    assert found.num_trained == 2 * len(RUNGS)
    last = found.gains[-1]
    assert last.share == pytest.approx(0.5, abs=0.02)
    assert (last.low, last.high) == (pytest.approx(-0.5), pytest.approx(-0.5))
    assert found.told[0] == "full: 1.00 (+0.00 to +0.00)"
    assert found.starts_at == ""


@pytest.mark.parametrize(
    ("learning", "starts_at"),
    [
        ({"no_convolution": 0.5, "no_residual_no_norm": 0.5, "vanilla_lstm": 0.5}, RUNGS[5]),
        ({"no_residual_no_norm": 0.5, "vanilla_lstm": 0.5}, "no_residual_no_norm"),
        ({"vanilla_lstm": 0.5}, "vanilla_lstm"),
    ],
    ids=["convolution", "residual", "at last"],
)
def test_the_rung_where_learning_starts_is_named(learning, starts_at: str) -> None:
    found = of_rungs(**(dict.fromkeys(RUNGS, 0.1) | learning))
    assert found.starts_at == starts_at
    finding = strip_down_ladder.judge(Evidence((), "", found), strip_down_ladder.LIMITS)
    assert finding.verdict == "faulty"
    assert f"learning starts at the rung {starts_at}" in finding.sentence
    assert finding.stage == ("residual" if starts_at == "no_residual_no_norm" else "cell")


def test_at_the_limit_half_of_the_gain_is_enough() -> None:
    assert of_rungs(full=0.3).starts_at == ""
    assert of_rungs(full=0.2).starts_at != ""


def test_a_red_identity_is_followed_down_to_where_it_is_quiet(monkeypatch) -> None:
    asked = ("residuals_add", "loss_fits_task")
    monkeypatch.setattr(
        strip_down_ladder,
        "red_questions",
        lambda probe, _: () if "no_convolution" in probe.subject.name else asked,
    )
    finding = answer(strip_down_ladder.QUESTION, Probe(make_subject("xlstm"), "deep"))
    assert finding.verdict == "faulty"
    assert "residuals_add; quiet from no_convolution down" in finding.sentence
    told = finding.evidence["reds"]["value"]
    assert len(told) == len(RUNGS)
    assert told[0] == "full: residuals_add, loss_fits_task"


def test_a_model_without_a_stack_has_nothing_to_strip(toy) -> None:
    finding = answer(strip_down_ladder.QUESTION, Probe(toy(), "deep"))
    assert finding.verdict == "not_applicable"


@pytest.mark.long
def test_all_exact_questions_are_asked_at_every_rung() -> None:
    probe = Probe(make_subject("xlstm"), "deep")
    asked = strip_down_ladder.exact_questions()
    assert len(asked) > 30
    for rung in RUNGS[:6]:
        inner = Probe(ladder.rung_subject(probe, rung))
        assert strip_down_ladder.red_questions(inner, asked) == (), rung
