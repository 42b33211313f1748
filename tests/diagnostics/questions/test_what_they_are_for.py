"""Single checks fire at what they are for, stay quiet else, and are open where nothing is given.

Negatives that leave items out or follow the batch, items the loss forgets as targets, reported test
metrics of other weights, training steps after an evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.diagnostics.engine import answer
from tasks.diagnostics.finding import Check
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import (
    loss_matches_output,
    negatives_as_declared,
    regularisation_works,
    validation_improves,
)
from tasks.diagnostics.subject import Draws

NEVER = "groups of items never drawn"
FOLLOWS = "the one item all inputs and targets"
EVERY_ITEM = "where one of all items is the target"
REPORTED = "reported test metrics"
IN_EVAL = "layers in eval mode within a training step"


def check_of(question: Question, probe: Probe, words: str) -> Check:
    [check] = [check for check in answer(question, probe).checks if words in check.name]
    return check


@pytest.fixture
def drawing(toy) -> Callable[..., Probe]:
    """`drawing(draw)`: the small program with a pairwise loss and negatives of its own."""

    def make(draw, **parts) -> Probe:
        said = dataclasses.replace(toy().declared, loss="bpr", num_negatives=5, collisions="allow")
        return Probe(toy(declared=said, sample_negatives=draw, **parts))

    return make


def uniform(prepared, batch, top: int | None = None) -> Draws:
    number = prepared.data.num_items
    generator = torch.Generator().manual_seed(batch.seed + 7919 * int(batch.targets.sum()))
    items = torch.randint(1, (top or number) + 1, (len(batch.item_ids), 5), generator=generator)
    return Draws(items, torch.full(items.shape, -float(np.log(number))))


def lower_half(prepared, batch) -> Draws:
    return uniform(prepared, batch, top=prepared.data.num_items // 2)


def of_the_batch(prepared, batch) -> Draws:
    usual = uniform(prepared, batch)
    pool = batch.targets[batch.asked]
    return usual._replace(item_ids=pool[usual.item_ids % len(pool)])


@pytest.mark.parametrize(("draw", "words"), [(lower_half, NEVER), (of_the_batch, FOLLOWS)])
def test_negatives(drawing, draw, words: str) -> None:
    question = negatives_as_declared.QUESTION
    found = check_of(question, drawing(draw), words)
    assert (found.verdict, found.stage) == ("faulty", "negatives")
    assert check_of(question, drawing(uniform), words).verdict == "healthy"


def test_negatives_are_open_without_draws_or_with_too_few(drawing, toy) -> None:
    question = negatives_as_declared.QUESTION
    nothing = answer(question, drawing(None))
    assert (nothing.verdict, "sample_negatives" in nothing.sentence) == ("undetermined", True)
    batches = toy().make_batches

    def one_row(prepared, seed, epoch):
        yield next(iter(batches(prepared, seed, epoch))).rows(slice(0, 1))

    few = answer(question, drawing(uniform, make_batches=one_row))
    assert (few.verdict, "1000 draws" in few.sentence) == ("undetermined", True)


def test_every_item_as_target(toy) -> None:
    question = loss_matches_output.QUESTION

    def forgets_the_last(logits, batch):
        asked = batch.asked
        weights = torch.ones(logits.shape[-1] - 1)
        weights[-1] = 0.5
        each = F.cross_entropy(logits[asked][:, 1:], batch.targets[asked] - 1, reduction="none")
        return (each * weights[batch.targets[asked] - 1]).mean()

    found = check_of(question, Probe(toy(criterion=forgets_the_last)), EVERY_ITEM)
    assert (found.verdict, found.stage) == ("faulty", "loss")
    assert check_of(question, Probe(toy()), EVERY_ITEM).verdict == "healthy"
    own = dataclasses.replace(toy().declared, loss="other")
    assert answer(question, Probe(toy(declared=own))).verdict == "not_applicable"
    assert answer(question, Probe(toy(criterion=None))).verdict == "undetermined"


def test_reported_test_metrics(healthy_trained: Probe) -> None:
    question = validation_improves.QUESTION
    trained = healthy_trained.subject.trained

    def reporting(metrics: dict[str, float]) -> Check:
        told = dataclasses.replace(trained, metrics=metrics)
        probe = Probe(healthy_trained.subject.replace(trained=told), "after_training")
        return check_of(question, probe, REPORTED)

    assert reporting(dict(trained.metrics)).verdict == "healthy"
    better = {name: min(1.0, value + 0.2) for name, value in trained.metrics.items()}
    found = reporting(better)
    assert (found.verdict, found.stage) == ("faulty", "metric")
    open_one = reporting({})
    assert (open_one.verdict, open_one.essential) == ("undetermined", False)
    room = found.limit.value
    evidence = validation_improves.measure(healthy_trained)
    for far, verdict in ((room, "healthy"), (np.nextafter(room, 1.0), "faulty")):
        test = dataclasses.replace(evidence.test, difference=float(far))
        changed = dataclasses.replace(evidence, test=test)
        judged = validation_improves.judge(changed, validation_improves.LIMITS)
        [same] = [check for check in judged.checks if REPORTED in check.name]
        assert same.verdict == verdict


def test_steps_after_an_evaluation(toy) -> None:
    question = regularisation_works.QUESTION

    def stays_as_it_was(loss, model, optimizer, batch):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.detach()

    def looks_at_no_module(loss, model, optimizer, batch):
        optimizer.zero_grad()
        value = sum(parameter.square().sum() for parameter in model.parameters())
        value.backward()
        optimizer.step()
        return value.detach()

    found = check_of(question, Probe(toy(train_step=stays_as_it_was)), IN_EVAL)
    assert (found.verdict, found.stage) == ("faulty", "regularisation")
    assert check_of(question, Probe(toy()), IN_EVAL).verdict == "healthy"
    blind = check_of(question, Probe(toy(train_step=looks_at_no_module)), IN_EVAL)
    assert blind.verdict == "undetermined"
