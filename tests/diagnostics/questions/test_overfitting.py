"""G1 and X1: memorising a few windows, and naming what kept a program from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import overfit
from tasks.diagnostics.measurements.overfit import Overfit
from tasks.diagnostics.measurements.windows_to_memorise import first_places, reachable_floor
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import overfits_small_subset, xlstm_overfits_one_user
from tasks.diagnostics.subject import Batch, Subject

ENTROPY = 0.6931471805599453  # ln 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps and arms: the small program is trained at a rate that needs no more."""
    monkeypatch.setattr(overfit, "STEPS", 100)
    arms = (("own", 1.0), ("rate", 0.01), ("optimiser", 0.03), ("loss", 0.03))
    monkeypatch.setattr(overfit, "ARMS", arms)


@pytest.fixture
def lively(toy: Callable[..., Subject]) -> Callable[..., Subject]:
    """The small program, wider and with a rate at which 100 steps memorise."""
    build = toy().build_model

    def make(rate: float = 0.03, **parts: Any) -> Subject:
        wide = {"build_model": lambda num_items, seed, **s: build(num_items, seed, 24)}
        adam = {"make_optimizer": lambda m: torch.optim.AdamW(m.parameters(), lr=rate)}
        return toy(**(wide | adam | parts))

    return make


QUESTIONS = (overfits_small_subset.QUESTION, xlstm_overfits_one_user.QUESTION)
each = pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)


@each
def test_the_healthy_program_memorises(question, lively, quick) -> None:
    finding = answer(question, Probe(lively(), "deep"))
    assert finding.verdict == "healthy", finding.sentence


@each
def test_undetermined_without_the_deep_mode(question, lively) -> None:
    finding = answer(question, Probe(lively(), "after_training"))
    assert finding.verdict == "undetermined"
    assert "--deep" in finding.advice[0]


def test_a_model_that_ignores_its_input_is_to_blame(lively, toy_model_class, quick) -> None:
    class Deaf(toy_model_class):
        def forward(self, item_ids):
            return self.head(torch.zeros(*item_ids.shape, self.head.in_features))

    def build(num_items: int, seed: int, **settings: Any) -> Deaf:
        torch.manual_seed(seed)
        return Deaf(num_items)

    finding = answer(QUESTIONS[0], Probe(lively(build_model=build), "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "core")


def test_a_step_uphill_is_blamed_on_the_optimiser(lively, quick) -> None:
    def uphill(model):
        return torch.optim.AdamW(model.parameters(), lr=0.03, maximize=True)

    finding = answer(QUESTIONS[1], Probe(lively(make_optimizer=uphill), "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "optimiser")


def test_a_rate_that_throws_the_weights_away_is_named(lively, quick) -> None:
    finding = answer(QUESTIONS[0], Probe(lively(rate=5.0), "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "learning_rate")


def test_another_loss_than_the_declared_is_named(lively, quick) -> None:
    logits = lively().logits

    def loss(model, batch):
        return logits(model, batch)[batch.asked].square().mean()

    finding = answer(QUESTIONS[1], Probe(lively(loss=loss), "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "loss")


def test_a_loss_of_ones_own_is_judged_by_first_places(lively, quick) -> None:
    subject = lively()
    own = dataclasses.replace(subject.declared, loss="other")
    assert answer(QUESTIONS[1], Probe(lively(declared=own), "deep")).verdict == "healthy"


def found(**values: Any) -> Overfit:
    usual = {
        "own": 0.05,
        "any_rate": 0.05,
        "any_optimiser": 0.05,
        "any_loss": 0.05,
        "best_rate": 1.0,
        "steps": 100,
        "floor": 0.0,
        "uniform": 3.0,
        "num_rows": 8,
        "num_targets": 90,
        "seeds": 1,
        "budget": 100,
    }
    return Overfit(**(usual | values))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"any_loss": 0.1, "any_optimiser": 0.1, "any_rate": 0.1, "own": 0.1}, "healthy"),
        ({"any_loss": 0.101, "any_optimiser": 0.101}, "faulty"),
        ({"any_optimiser": 0.101}, "faulty"),
        ({"any_rate": 0.5, "own": 0.5}, "healthy"),
        ({"any_rate": 0.501}, "faulty"),
        ({"own": 0.501, "best_rate": 10.0}, "faulty"),
        # A careful rate with a long training ahead of it.
        ({"own": 0.9, "best_rate": 10.0, "budget": 6000}, "healthy"),
        ({"own": 0.9, "best_rate": 0.1, "budget": 6000}, "faulty"),
    ],
)
def test_at_the_limits(values: dict[str, Any], verdict: str) -> None:
    finding = overfits_small_subset.judge(found(**values), overfits_small_subset.LIMITS)
    assert finding.verdict == verdict


def test_a_plain_lstm_that_memorises_blames_the_cells() -> None:
    stuck = found(own=1.0, any_rate=1.0, any_optimiser=1.0, any_loss=1.0)
    for plain, stage in ((found(), "cell"), (stuck, "core"), (None, "core")):
        evidence = xlstm_overfits_one_user.Evidence(stuck, plain)
        finding = xlstm_overfits_one_user.judge(evidence, xlstm_overfits_one_user.LIMITS)
        assert (finding.verdict, finding.stage) == ("faulty", stage)


def two_rows(targets: list[list[int]]) -> Batch:
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    return Batch(ids, torch.tensor(targets), ids > 0)


def test_the_floor_is_the_entropy_of_targets_after_equal_pasts(healthy: Probe) -> None:
    batch = two_rows([[2, 5, 6], [2, 7, 8]])
    # Of six targets, the two after (1, 2) differ: 2/6 of ln 2.
    assert reachable_floor(healthy, batch) == pytest.approx(ENTROPY / 3)
    assert first_places(healthy, batch) == 5


def test_the_floor_of_a_model_of_the_last_event(toy) -> None:
    subject = toy()
    declared = dataclasses.replace(subject.declared, reads_history=False)
    batch = two_rows([[2, 5, 6], [2, 7, 8]])
    ids = torch.tensor([[1, 2, 3], [9, 2, 4]])
    changed = batch._replace(item_ids=ids)
    assert reachable_floor(Probe(toy(declared=declared)), changed) == pytest.approx(ENTROPY / 3)
    assert reachable_floor(Probe(subject), changed) == 0.0


def test_label_smoothing_raises_the_floor(toy) -> None:
    subject = toy()
    declared = dataclasses.replace(subject.declared, label_smoothing=0.1)
    probe = Probe(toy(declared=declared))
    num_items = probe.data.num_items
    top, rest = 0.9 + 0.1 / num_items, 0.1 / num_items
    expected = -(top * torch.tensor(top).log() + (num_items - 1) * rest * torch.tensor(rest).log())
    one = two_rows([[2, 5, 6], [2, 5, 8]])
    assert reachable_floor(probe, one) == pytest.approx(float(expected), rel=1e-5)
