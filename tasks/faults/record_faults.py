"""Faults of evaluation and of records that were written to try the questions."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import Histories
from tasks.diagnostics.subject import Subject, Trained
from tasks.faults.handling_faults import Plant, tried
from tasks.faults.planting import first_embedding

Averages = Callable[[Mapping[str, np.ndarray], Histories], Mapping[str, Any]]


def _averaged(change: Averages) -> Plant:
    """Average metrics otherwise: `change(values per user, histories)`."""

    def plant(subject: Subject) -> Subject:
        def evaluate(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
            data = given.prepared().data
            split = getattr(data, name)
            index = np.arange(len(split))
            histories = given.make_histories(data, split, index, given.declared.max_seq_len)
            with torch.no_grad():
                scores = given.score(model, *(torch.as_tensor(part) for part in histories))
            targets = torch.as_tensor(np.array(split.targets, dtype=np.int64))
            ranks = np.asarray(given.rank(scores, targets))
            means = change(given.metrics(ranks, given.declared.cutoffs), histories)
            return {f"{name}/{key}": float(value) for key, value in means.items()}

        return subject.replace(evaluate=evaluate)

    return plant


def _of_hits(values: Mapping[str, np.ndarray], histories: Histories) -> dict[str, Any]:
    return {name: value[value > 0].mean() if value.any() else 0.0 for name, value in values.items()}


def _by_history(values: Mapping[str, np.ndarray], histories: Histories) -> dict[str, Any]:
    return {name: np.average(v, weights=histories.lengths) for name, v in values.items()}


def _validation_sampled(subject: Subject) -> Subject:
    evaluate = subject.evaluate

    def among_few(scores: Tensor, targets: Tensor) -> Tensor:
        own = scores.gather(1, targets.clamp(min=0)[:, None])
        return 1 + (scores[:, 1:21] > own).sum(dim=1)

    def evaluate_wrongly(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
        return evaluate(given.replace(rank=among_few) if name == "val" else given, model, name)

    return subject.replace(evaluate=evaluate_wrongly)


def _metric_kept(subject: Subject) -> Subject:
    evaluate, kept = subject.evaluate, {}

    def evaluate_once(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
        if (name, id(model)) not in kept:
            kept[name, id(model)] = (evaluate(given, model, name), model)
        return kept[name, id(model)][0]

    return subject.replace(evaluate=evaluate_once)


def _trained(change: Callable[[Subject, Trained], Trained]) -> Plant:
    def plant(subject: Subject) -> Subject:
        train = subject.train

        def train_wrongly(given: Subject, seed: int, **more: int) -> Trained:
            return change(given, train(given, seed, **more))

        return subject.replace(train=train_wrongly)

    return plant


def _mean_since_start(subject: Subject, trained: Trained) -> Trained:
    losses = np.array([row["train/loss"] for row in trained.epochs])
    means = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    rows = [{**r, "train/loss": float(m)} for r, m in zip(trained.epochs, means, strict=True)]
    return dataclasses.replace(trained, epochs=tuple(rows))


def _loss_one_late(subject: Subject, trained: Trained) -> Trained:
    before = (trained.epochs[0], *trained.epochs)
    rows = [
        {**row, "train/loss": old["train/loss"]}
        for row, old in zip(trained.epochs, before, strict=False)
    ]
    return dataclasses.replace(trained, epochs=tuple(rows))


def _better_than_tested(subject: Subject, trained: Trained) -> Trained:
    metrics = {name: 1.1 * value for name, value in trained.metrics.items()}
    return dataclasses.replace(trained, metrics=metrics)


def _table_one_off(subject: Subject, trained: Trained) -> Trained:
    model = copy.deepcopy(trained.model)
    with torch.no_grad():
        table = first_embedding(model).weight
        table[1:] = table[1:].roll(1, 0)
    metrics = subject.evaluate(subject, model, "test")
    return dataclasses.replace(trained, model=model, metrics=metrics)


TRAINED = {"effort": "after_training"}

FAULTS = (
    tried(
        "mean_of_hits",
        "users without a hit are left out of the mean",
        "evaluation",
        "X21",
        "metric",
        _averaged(_of_hits),
    ),
    tried(
        "users_by_history",
        "users weigh by the length of their history",
        "evaluation",
        "X21",
        "metric",
        _averaged(_by_history),
    ),
    tried(
        "validation_sampled",
        "validation alone ranks among twenty items",
        "evaluation",
        "X21 G21 G6",
        "metric",
        _validation_sampled,
    ),
    tried(
        "metric_kept",
        "the metric of a split is computed once per model",
        "evaluation",
        "X21 G21 G23",
        "metric inference state",
        _metric_kept,
    ),
    tried(
        "loss_one_late",
        "every epoch shows the loss of the one before",
        "training",
        "G23 G20",
        "monitoring",
        _trained(_loss_one_late),
        **TRAINED,
    ),
    tried(
        "mean_since_start",
        "the loss of an epoch is the mean since the start",
        "training",
        "G23 G20",
        "monitoring",
        _trained(_mean_since_start),
        **TRAINED,
    ),
    tried(
        "better_than_tested",
        "reported test metrics are not those of the weights",
        "training",
        "G21 G23 X21",
        "metric inference monitoring",
        _trained(_better_than_tested),
        **TRAINED,
    ),
    tried(
        "table_one_off",
        "the item table is loaded one row off",
        "training",
        "G21 X13",
        "inference monitoring metric encode",
        _trained(_table_one_off),
        **TRAINED,
    ),
)
