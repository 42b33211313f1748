"""What a step does with gradients: which arrive, which way it goes, what it remembers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS

BY_ID = {question.id: question for question in QUESTIONS}


def _around(toy_step, before=None, after=None):
    def step(loss, model, optimizer, batch):
        if before is not None:
            before(model, optimizer)
        value = toy_step(loss, model, optimizer, batch)
        if after is not None:
            after(model, optimizer)
        return value

    return step


def _step(change):
    def step(loss, model, optimizer, batch):
        model.train()
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        change(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.detach()

    return step


def _negated(model):
    model.core.weight_ih_l0.grad.neg_()


def _cleared(model):
    model.core.weight_ih_l0.grad = None


def _signs(model):
    for parameter in model.parameters():
        parameter.grad.copy_(parameter.grad.sign() * 1e-4)


def _copied_back(model, optimizer):
    weight = model.core.weight_hh_l0
    weight.data.copy_(model.__dict__.setdefault("kept", weight.detach().clone()))


def _forgets(model, optimizer):
    optimizer.state.clear()


def _again(model, optimizer):
    optimizer.step()


def _halved(model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] *= 0.5


def _tenfold(model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.1


@pytest.mark.parametrize("change", [_negated, _cleared, _signs], ids=lambda f: f.__name__)
def test_a_changed_gradient_is_found(toy, change) -> None:
    finding = answer(BY_ID["gradients_flow"], Probe(toy(train_step=_step(change))))
    assert (finding.verdict, finding.stage) == ("faulty", "optimiser"), finding.sentence


@pytest.mark.parametrize(
    ("change", "question", "stage"),
    [
        (_copied_back, "gradients_flow", "optimiser"),
        (_forgets, "gradients_flow", "optimiser"),
        (_again, "gradients_flow", "optimiser"),
        (_halved, "learning_rate_suits", "learning_rate"),
        (_tenfold, "learning_rate_suits", "learning_rate"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_happens_after_a_step_is_found(toy, change, question: str, stage: str) -> None:
    step = _around(toy().train_step, after=change)
    declared = dataclasses.replace(toy().declared, max_epochs=20)
    finding = answer(BY_ID[question], Probe(toy(train_step=step, declared=declared)))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (lambda m: torch.optim.SGD(m.parameters(), lr=0.01, maximize=True), "faulty"),
        (lambda m: torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9), "healthy"),
        (lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01), "healthy"),
        (lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01), "healthy"),
    ],
    ids=["uphill", "momentum", "rmsprop", "adagrad"],
)
def test_the_first_step_goes_down(toy, make, verdict: str) -> None:
    finding = answer(BY_ID["gradients_flow"], Probe(toy(make_optimizer=make)))
    assert finding.verdict == verdict, finding.sentence


def test_an_epsilon_above_the_gradients_has_to_reach_further(toy) -> None:
    def damped(model):
        return torch.optim.Adam(model.parameters(), lr=0.01, eps=10.0)

    declared = dataclasses.replace(toy().declared, max_epochs=200)
    finding = answer(
        BY_ID["learning_rate_suits"], Probe(toy(make_optimizer=damped, declared=declared))
    )
    small = next(c for c in finding.checks if c.name.startswith("change of the weights that"))
    assert (finding.verdict, small.verdict) == ("faulty", "healthy"), finding.sentence


def test_steps_without_a_finite_gradient_leave_their_use_open(toy) -> None:
    def nothing(loss, model, optimizer, batch):
        return loss(model, batch).detach()

    finding = answer(BY_ID["learning_rate_suits"], Probe(toy(train_step=nothing)))
    rates = [check for check in finding.checks if "learning rate" in check.name]
    assert {check.verdict for check in rates} >= {"undetermined"}
