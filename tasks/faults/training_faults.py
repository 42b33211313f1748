"""Faults of a whole training: bad settings, which weights are kept, what is recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tasks.diagnostics.subject import Batch, PreparedLog, Subject, Trained
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_model, swap_class


def _trained(
    change: Callable[[Subject, int, Trained], Trained],
) -> Callable[[Subject], Subject]:
    """Change what a training leaves: `change(subject, seed, trained)`."""

    def plant(subject: Subject) -> Subject:
        train = subject.train

        def train_wrongly(given: Subject, seed: int, **more: int) -> Trained:
            return change(given, seed, train(given, seed, **more))

        return subject.replace(train=train_wrongly)

    return plant


def _evaluated(subject: Subject, trained: Trained, model: nn.Module) -> Trained:
    """Return the training with another model handed to evaluation."""
    metrics = subject.evaluate(subject, model, "test")
    return dataclasses.replace(trained, model=model, metrics=metrics, ranks=None)


def _last_weights(subject: Subject, seed: int, trained: Trained) -> Trained:
    return _evaluated(subject, trained, trained.last_model)


def _never_updated(subject: Subject, seed: int, trained: Trained) -> Trained:
    # The moving average that is evaluated still holds the initial weights.
    model = subject.build_model(subject.prepared().data.num_items, seed).eval()
    return _evaluated(subject, trained, model)


def _no_curves(subject: Subject, seed: int, trained: Trained) -> Trained:
    return dataclasses.replace(trained, epochs=(), steps=())


def _constant_curves(subject: Subject, seed: int, trained: Trained) -> Trained:
    first = trained.epochs[0]
    return dataclasses.replace(
        trained, epochs=tuple({**first, "epoch": row["epoch"]} for row in trained.epochs)
    )


def _stopped_on_test(subject: Subject) -> Subject:
    train, evaluate = subject.train, subject.evaluate

    def evaluate_test(given: Subject, model: nn.Module, split: str) -> dict[str, float]:
        metrics = evaluate(given, model, "test")
        return {name.replace("test/", f"{split}/"): value for name, value in metrics.items()}

    def train_wrongly(given: Subject, seed: int, **more: int) -> Trained:
        return train(given.replace(evaluate=evaluate_test), seed, **more)

    return subject.replace(train=train_wrongly)


def _unseeded_workers(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, seed: int, *when: int) -> Iterator[Batch]:
        drawn = int(np.random.SeedSequence().generate_state(1)[0])
        yield from make(prepared, drawn, *when)

    return subject.replace(make_batches=make_wrongly)


class _SilentGaps:
    """Adds nothing for the time since the previous event."""

    def forward(self, gaps: Tensor, is_first: Tensor) -> Tensor:
        return torch.zeros_like(super().forward(gaps, is_first))


def _gaps_unused(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        swap_class(model.time_gaps, _SilentGaps)
        return model

    return change_model(subject, change)


FAULTS = (
    Fault(
        id="lr_huge",
        title="the learning rate is 1",
        layer="training",
        source="DeepCrime, change of learning rate",
        expected=asks("G17 X14"),
        stages=at("learning_rate"),
        settings={"learning_rate": 1.0},
    ),
    Fault(
        id="lr_tiny",
        title="the learning rate is 1e-7",
        layer="training",
        source="DeepCrime, change of learning rate",
        expected=asks("G17 X14"),
        stages=at("learning_rate"),
        settings={"learning_rate": 1e-7},
    ),
    Fault(
        id="wd_huge",
        title="weight decay is 20",
        layer="training",
        source="TheDeepChecker, over-regularisation",
        expected=asks("G19"),
        stages=at("regularisation"),
        settings={"weight_decay": 20.0},
    ),
    Fault(
        id="dropout_95",
        title="95 % of the inputs are dropped",
        layer="training",
        source="DeepCrime, change of dropout rate",
        expected=asks("G19"),
        stages=at("regularisation"),
        settings={"dropout": 0.95},
    ),
    Fault(
        id="bs_full",
        title="one batch holds the whole training set",
        layer="training",
        source="DeepCrime, disabled batching",
        expected=asks("G18 X18"),
        stages=at("batching"),
        settings={"batch_size": 100_000},
        effort="after_training",
    ),
    Fault(
        id="bs_one",
        title="every batch holds one row",
        layer="training",
        source="DeepCrime, change of batch size",
        expected=asks("G18 X18"),
        stages=at("batching"),
        settings={"batch_size": 1},
        effort="after_training",
    ),
    Fault(
        id="epochs_1",
        title="training ends after one epoch",
        layer="training",
        source="DeepCrime, change of epochs",
        expected=asks("G18 X18 G20"),
        stages=at("batching", "symptom"),
        settings={"max_epochs": 1},
        effort="after_training",
    ),
    Fault(
        id="last_not_best",
        title="the last weights are evaluated instead of the best",
        layer="training",
        source="DeepCrime, change of early stopping",
        expected=asks("G21"),
        stages=at("symptom", "metric", "inference"),
        apply=_trained(_last_weights),
        effort="after_training",
    ),
    Fault(
        id="stopped_on_test",
        title="the best epoch is chosen by the test metric",
        layer="training",
        source="evaluation leak",
        expected=asks("G2 G21"),
        stages=at("split", "metric"),
        apply=_stopped_on_test,
        effort="after_training",
    ),
    Fault(
        id="average_never_updated",
        title="the averaged weights that are evaluated were never updated",
        layer="training",
        source="diffusers 11903 (computed and unused)",
        expected=asks("G21 X13"),
        stages=at("inference", "symptom", "optimiser"),
        apply=_trained(_never_updated),
        effort="after_training",
    ),
    Fault(
        id="loader_unseeded",
        title="batches depend on a seed nobody set, so a run can't be repeated",
        layer="training",
        source="data loaders without seeded workers",
        expected=asks("G6 G20"),
        stages=at("stochastic", "batching", "encode"),
        apply=_unseeded_workers,
    ),
    Fault(
        id="curves_missing",
        title="nothing of the training is recorded",
        layer="training",
        source="logging switched off",
        expected=asks("G23"),
        stages=at("monitoring"),
        apply=_trained(_no_curves),
        effort="after_training",
    ),
    Fault(
        id="curves_constant",
        title="every epoch shows the numbers of the first",
        layer="training",
        source="a logger that formats its first record again and again",
        expected=asks("G23"),
        stages=at("monitoring"),
        apply=_trained(_constant_curves),
        effort="after_training",
    ),
    Fault(
        id="gaps_unused",
        title="the declared time feature has no effect",
        layer="model",
        source="a feature computed and not added",
        expected=asks("X12 G15"),
        stages=at("embedding", "time", "gradient_flow"),
        apply=_gaps_unused,
        needs={"time_gaps": True},
    ),
)
