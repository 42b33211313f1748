"""G14: fires, stays quiet, holds at the limit; every declared loss has an independent form."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements.loss_forms import declared_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.loss_fits_task import LIMITS, QUESTION, judge, measure
from tasks.diagnostics.subject import Draws


def counts_padding(model, batch):
    return F.cross_entropy(model(batch.item_ids).flatten(0, 1), batch.targets.flatten())


def flipped(model, batch):
    asked = batch.asked
    return -F.cross_entropy(model(batch.item_ids)[asked][:, 1:], batch.targets[asked] - 1)


def summed(model, batch):
    asked = batch.asked
    logits = model(batch.item_ids)[asked][:, 1:]
    return F.cross_entropy(logits, batch.targets[asked] - 1, reduction="sum")


def right_value_wrong_direction(model, batch):
    asked = batch.asked
    loss = F.cross_entropy(model(batch.item_ids)[asked][:, 1:], batch.targets[asked] - 1)
    return 2 * loss.detach() - loss


@pytest.mark.parametrize("loss", [counts_padding, flipped, summed])
def test_another_loss_is_found(toy, loss) -> None:
    finding = answer(QUESTION, Probe(toy(loss=loss)))
    assert (finding.verdict, finding.stage) == ("faulty", "loss")


def test_a_loss_right_in_value_and_wrong_in_gradient_is_found(toy) -> None:
    evidence = measure(Probe(toy(loss=right_value_wrong_direction)))
    assert evidence.oracle.relative_difference < 1e-5
    assert judge(evidence, LIMITS).verdict == "faulty"


@pytest.mark.parametrize("name", ["relative_difference", "whole_difference"])
def test_at_the_limit(healthy: Probe, name: str) -> None:
    evidence = measure(healthy)
    for factor, verdict in ((1.0, "healthy"), (1.001, "faulty")):
        oracle = dataclasses.replace(evidence.oracle, **{name: LIMITS["value"].value * factor})
        assert judge(dataclasses.replace(evidence, oracle=oracle), LIMITS).verdict == verdict


def test_rows_that_have_no_loss_are_found_in_a_whole_batch(toy) -> None:
    def first_rows(model, batch):
        asked = batch.asked.clone()
        asked[8:] = False
        logits = model(batch.item_ids)[asked][:, 1:]
        return F.cross_entropy(logits, batch.targets[asked] - 1)

    finding = answer(QUESTION, Probe(toy(loss=first_rows)))
    assert (finding.verdict, finding.stage) == ("faulty", "loss")


@pytest.mark.parametrize(
    ("told", "verdict"),
    [(lambda v: v, "healthy"), (lambda v: 0.7 * v, "faulty"), (lambda v: v * math.nan, "faulty")],
    ids=["as it was", "smaller", "no number"],
)
def test_a_step_reports_the_loss_it_differentiated(toy, told, verdict: str) -> None:
    step = toy().train_step
    finding = answer(QUESTION, Probe(toy(train_step=lambda *given: told(step(*given)))))
    assert finding.verdict == verdict
    assert verdict == "healthy" or finding.stage == "monitoring"


def test_a_step_of_parts_reports_their_mean(toy) -> None:
    def in_halves(loss, model, optimizer, batch):
        model.train()
        optimizer.zero_grad()
        rows = len(batch.item_ids) // 2
        parts = [loss(model, batch.rows(part)) for part in (slice(0, rows), slice(rows, None))]
        value = sum(parts) / 2
        value.backward()
        optimizer.step()
        return value.detach()

    assert answer(QUESTION, Probe(toy(train_step=in_halves))).verdict == "healthy"


def test_what_a_step_reports_at_the_limit(healthy: Probe) -> None:
    evidence = measure(healthy)
    for factor, verdict in ((1.0, "healthy"), (1.001, "faulty")):
        distance = LIMITS["reported"].value * factor
        reported = dataclasses.replace(evidence.reported, distance=distance)
        assert judge(dataclasses.replace(evidence, reported=reported), LIMITS).verdict == verdict
    assert judge(dataclasses.replace(evidence, reported=None, unreported="-"), LIMITS)


def test_a_loss_of_ones_own_is_not_judged(toy) -> None:
    declared = dataclasses.replace(toy().declared, loss="other")
    assert answer(QUESTION, Probe(toy(declared=declared))).verdict == "not_applicable"


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("bpr", math.log(2)),
        ("bce", math.log(2)),
        ("sampled_softmax", math.log(1 + 4)),
    ],
)
def test_sampled_forms_by_hand_at_equal_scores(toy, loss: str, expected: float) -> None:
    """With equal scores: ln 2 for pairs; K = 2 draws of q = 1/4 stand for 4 items each half."""
    declared = dataclasses.replace(toy().declared, loss=loss, collisions="allow")
    draws = Draws(torch.tensor([[1, 3]]), torch.full((1, 2), -math.log(4.0)))
    value = declared_loss(torch.zeros(1, 4), torch.tensor([2]), torch.tensor([0]), declared, draws)
    assert float(value) == pytest.approx(expected)


def test_an_excluded_negative_does_not_count(toy) -> None:
    declared = dataclasses.replace(toy().declared, loss="bpr", collisions="exclude_target")
    draws = Draws(torch.tensor([[2, 2]]), torch.zeros(1, 2))
    logits, targets, rows = torch.zeros(1, 4), torch.tensor([2]), torch.tensor([0])
    assert float(declared_loss(logits, targets, rows, declared, draws)) == 0.0
