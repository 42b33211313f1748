"""G15, G16, G17, G19, X16 on spoilt steps, optimisers and losses."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS

BY_ID = {question.id: question for question in QUESTIONS}


def step(*, zero: bool = True, limit: float = 1.0, train: bool = True, backward: bool = True):
    """A training step with one thing left out or changed; limit 0 does not clip."""

    def train_step(loss, model, optimizer, batch):
        model.train(train)
        if zero:
            optimizer.zero_grad()
        value = loss(model, batch)
        if backward:
            value.backward()
        if limit:
            nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        return value.detach()

    return train_step


def by_value(loss, model, optimizer, batch):
    optimizer.zero_grad()
    model.train()
    value = loss(model, batch)
    value.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.05)
    optimizer.step()
    return value.detach()


def adam(**settings):
    usual = {"lr": 0.01, "weight_decay": 0.01}
    return lambda model: torch.optim.AdamW(model.parameters(), **(usual | settings))


def head_only(model):
    return torch.optim.AdamW(model.head.parameters(), lr=0.01, weight_decay=0.01)


def unmasked(logits, batch):
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())


def probabilities(logits, batch):
    asked = batch.asked
    return F.cross_entropy(logits[asked][:, 1:].softmax(-1), batch.targets[asked] - 1)


@pytest.mark.parametrize(
    ("question", "parts", "stage"),
    [
        ("gradients_flow", {"train_step": step(zero=False)}, "optimiser"),
        ("gradients_flow", {"train_step": step(backward=False)}, "optimiser"),
        ("gradients_flow", {"make_optimizer": head_only}, "optimiser"),
        ("clipping_works", {"train_step": step(limit=0.0)}, "clipping"),
        ("clipping_works", {"train_step": step(limit=0.5)}, "clipping"),
        ("clipping_works", {"train_step": by_value}, "clipping"),
        ("learning_rate_suits", {"make_optimizer": adam(lr=10.0)}, "learning_rate"),
        ("learning_rate_suits", {"make_optimizer": adam(lr=1e-9)}, "learning_rate"),
        ("regularisation_works", {"train_step": step(train=False)}, "regularisation"),
        ("regularisation_works", {"make_optimizer": adam(weight_decay=0.0)}, "regularisation"),
        ("regularisation_works", {"make_optimizer": adam(weight_decay=20.0)}, "regularisation"),
        ("loss_matches_output", {"criterion": unmasked}, "loss"),
        ("loss_matches_output", {"criterion": probabilities}, "loss"),
    ],
)
def test_spoilt_training_is_found(toy, question: str, parts: dict, stage: str) -> None:
    finding = answer(BY_ID[question], Probe(toy(**parts)))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


def model_with(toy_model_class, change):
    def build(num_items: int, seed: int, embedding_dim: int = 8):
        torch.manual_seed(seed)
        model = toy_model_class(num_items, embedding_dim)
        change(model)
        return model

    return build


def detach_embedding(model: nn.Module) -> None:
    model.embedding.register_forward_hook(lambda module, args, output: output.detach())


def other_dropout(model: nn.Module) -> None:
    model.dropout.p = 0.5


def dropout_in_eval(model: nn.Module) -> None:
    model.dropout.forward = lambda x: F.dropout(x, 0.2, training=True)


def unused_dropout(model: nn.Module) -> None:
    model.dropout.register_forward_hook(lambda module, args, output: args[0])


@pytest.mark.parametrize(
    ("question", "change", "stage"),
    [
        ("gradients_flow", detach_embedding, "gradient_flow"),
        ("regularisation_works", other_dropout, "regularisation"),
        ("regularisation_works", dropout_in_eval, "stochastic"),
        ("regularisation_works", unused_dropout, "regularisation"),
    ],
)
def test_spoilt_modules_are_found(toy, toy_model_class, question, change, stage) -> None:
    probe = Probe(toy(build_model=model_with(toy_model_class, change)))
    finding = answer(BY_ID[question], probe)
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


def test_no_clipping_is_healthy_where_none_is_declared(toy) -> None:
    said = dataclasses.replace(toy().declared, max_grad_norm=0.0)
    probe = Probe(toy(declared=said, train_step=step(limit=0.0)))
    assert answer(BY_ID["clipping_works"], probe).verdict == "healthy"


def test_accumulation_is_healthy_where_declared(toy) -> None:
    def accumulate(loss, model, optimizer, batch):
        model.train()
        value = loss(model, batch) / 2
        value.backward()
        state = optimizer.__dict__
        state["parts"] = state.get("parts", 0) + 1
        if state["parts"] % 2 == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return value.detach()

    said = dataclasses.replace(toy().declared, accumulate_steps=2)
    finding = answer(BY_ID["clipping_works"], Probe(toy(declared=said, train_step=accumulate)))
    assert finding.verdict == "healthy"


def test_clipping_at_the_limit(healthy: Probe) -> None:
    question = BY_ID["clipping_works"]
    evidence = question.measure(healthy)
    for norm, verdict in ((1.0199, "healthy"), (1.0201, "faulty")):
        clipped = dataclasses.replace(evidence.clipping, norm_at_optimizer=norm)
        changed = dataclasses.replace(evidence, clipping=clipped)
        assert question.judge(changed, question.limits).verdict == verdict


def test_without_an_optimiser_steps_stay_open(toy) -> None:
    for id in ("gradients_flow", "clipping_works", "learning_rate_suits"):
        assert answer(BY_ID[id], Probe(toy(make_optimizer=None))).verdict == "undetermined"
