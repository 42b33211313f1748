"""What one finished training shows is suspect until a training with another seed shows it too."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from tasks.diagnostics.conclusion import calls_for_interventions
from tasks.diagnostics.engine import answer, diagnose_findings
from tasks.diagnostics.finding import Check, Limit, Repeat
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    batch_and_length_suit,
    loss_falls_each_epoch,
    negatives_as_declared,
    validation_improves,
)
from tests.diagnostics.conftest import make_log
from tests.diagnostics.questions.conftest import train_toy
from tests.diagnostics.questions.test_gates_and_norms import sampled, uniform

FAR = 100_000_000
"""Beyond every seed of a batch."""


def renamed(toy):
    """Batches that ask for other items than come next."""
    original = toy().make_batches

    def batches(prepared, seed, epoch):
        for batch in original(prepared, seed, epoch):
            other = (batch.targets + 11) % prepared.data.num_items + 1
            yield batch._replace(targets=torch.where(batch.asked, other, 0))

    return batches


def stepping(rate: float):
    return lambda model: torch.optim.AdamW(model.parameters(), lr=rate)


@pytest.mark.parametrize(
    ("repeat", "verdict"),
    [
        (None, "suspect"),
        (Repeat(0.1, 0.05), "faulty"),
        (Repeat(0.1, 0.06), "suspect"),
        (Repeat(0.1), "faulty"),
        (Repeat(0.3, 0.0), "suspect"),
        (Repeat(float("nan"), 0.0), "faulty"),
    ],
    ids=["none", "at the level", "by chance", "without a test", "not repeated", "no number"],
)
def test_a_check_of_one_training(repeat: Repeat | None, verdict: str) -> None:
    check = Check(
        "share",
        0.1,
        "",
        Limit(0.25, "a quarter"),
        "symptom",
        "statistical",
        relation="at_least",
        p_value=1e-6,
        by_training=True,
        repeat=repeat,
    )
    assert check.verdict == verdict
    assert check.awaits_repeat == (repeat is None)
    assert dataclasses.replace(check, value=0.3).verdict == "healthy"
    assert dataclasses.replace(check, significant=False).verdict == "healthy"
    assert dataclasses.replace(check, by_training=False).verdict == "faulty"


def test_a_model_that_learns_and_still_has_no_skill_is_a_symptom(toy, trained) -> None:
    """Trained on renamed targets: they are learned, and of no use at evaluation."""
    probe = trained(make_batches=renamed(toy), log=make_log(num_users=240), epochs=25)
    finding = answer(validation_improves.QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("suspect", "symptom")
    assert "seen in one training" in finding.sentence
    finding = answer(validation_improves.QUESTION, Probe(probe.subject, "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "symptom")
    assert "in a training with another seed" in finding.sentence


def test_what_another_seed_does_not_show_stays_suspect(toy, trained) -> None:
    """The finished training is of a spoiled program, the one made to repeat it is not."""
    log = make_log(num_users=240)
    spoiled = trained(make_batches=renamed(toy), log=log, epochs=25).subject.trained
    subject = toy(log=log, train=partial(train_toy, epochs=25)).replace(trained=spoiled)
    finding = answer(validation_improves.QUESTION, Probe(subject, "deep"))
    assert (finding.verdict, finding.stage) == ("suspect", "symptom")


def test_a_loss_that_rises_with_every_seed_is_found(toy, trained) -> None:
    """Steps up the gradient: the finished training is suspect until another seed rises too."""

    def upward(loss, model, optimizer, batch):
        optimizer.zero_grad()
        value = loss(model, batch)
        (-value).backward()
        optimizer.step()
        return value.detach()

    probe = trained(train_step=upward, epochs=8)
    assert answer(loss_falls_each_epoch.QUESTION, probe).verdict == "suspect"
    deep = Probe(probe.subject, "deep")
    assert answer(loss_falls_each_epoch.QUESTION, deep).verdict == "faulty"
    untrainable = Probe(probe.subject.replace(train=None, trained=probe.subject.trained), "deep")
    assert answer(loss_falls_each_epoch.QUESTION, untrainable).verdict == "suspect"


def test_a_budget_that_ends_a_training_early_is_named(trained) -> None:
    probe = trained(epochs=1, make_optimizer=stepping(3e-3), log=make_log(num_users=240))
    finding = answer(batch_and_length_suit.QUESTION, probe)
    found = {check.name: check for check in finding.checks}
    name = "gain over popularity per gain of transition counts when the budget ended training"
    assert (found[name].verdict, found[name].stage) == ("suspect", "batching")
    assert calls_for_interventions(diagnose_findings("toy", "after_training", [finding]))
    evidence = dataclasses.replace(probe.evidence(batch_and_length_suit.measure))
    for again, verdict in ((Repeat(0.0, 1e-3), "faulty"), (Repeat(0.8, 1.0), "suspect")):
        changed = dataclasses.replace(evidence, again=again)
        judged = batch_and_length_suit.judge(changed, batch_and_length_suit.LIMITS)
        [check] = [check for check in judged.checks if check.name == name]
        assert check.verdict == verdict


def test_negatives_that_stray_with_one_seed_only_are_chance(toy) -> None:
    """Draws are spoiled in the batches of seed 0, or of every seed."""

    def low(prepared, batch):
        draws = uniform(prepared, batch)
        half = prepared.data.num_items // 2
        return draws._replace(item_ids=(draws.item_ids - 1) % half + 1)

    def seeded(prepared, seed, epoch):
        for batch in toy().make_batches(prepared, seed, epoch):
            yield batch._replace(seed=batch.seed + FAR * seed)

    def distance(draw) -> Check:
        subject = sampled(toy, draw).subject.replace(make_batches=seeded)
        finding = answer(negatives_as_declared.QUESTION, Probe(subject))
        return next(check for check in finding.checks if check.p_value is not None)

    assert distance(low).verdict == "faulty"
    once = distance(lambda p, b: low(p, b) if b.seed < FAR else uniform(p, b))
    assert once.verdict == "healthy"
    assert np.isfinite(once.p_value)
