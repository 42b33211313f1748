"""Faults of data, sampling, evaluation and records that were held out, written before any run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.prepared import EvaluationSplit, Histories, PreparedData
from tasks.diagnostics.subject import Batch, PreparedLog, Subject, Trained
from tasks.faults.fault import at
from tasks.faults.held_out_data_faults import held_out
from tasks.faults.planting import change_batches, change_criterion, change_prepared, pack, with_data


def _validated_stale(subject: Subject) -> Subject:
    make = subject.make_histories

    def make_stale(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        given = make(data, split, index, max_len)
        if split.name != "val":
            return given
        lengths = np.maximum(given.lengths - 1, 1)
        real = np.arange(given.item_ids.shape[1]) < lengths[:, None]
        return Histories(given.item_ids * real, lengths, given.times * real)

    return subject.replace(make_histories=make_stale)


def _shrinking_epochs(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, seed: int, epoch: int) -> Iterator[Batch]:
        # The iterator of the first epoch is cut a batch shorter every time it is used again.
        batches = list(make(prepared, seed, epoch))
        yield from batches[: max(1, len(batches) - epoch)]

    return subject.replace(make_batches=make_wrongly)


def _tests_repeated(subject: Subject) -> Subject:
    """Repeat every tenth test example."""

    def change(prepared: PreparedLog) -> PreparedLog:
        test = prepared.data.test
        rows = np.sort(np.concatenate([np.arange(len(test)), np.arange(0, len(test), 10)]))
        extra = pack(test.extra, [np.arange(*test.extra.offsets[row : row + 2]) for row in rows])
        names = ("users", "targets", "target_times", "target_rows")
        arrays = {name: np.asarray(getattr(test, name))[rows] for name in names}
        return with_data(prepared, test=dataclasses.replace(test, extra=extra, **arrays))

    return change_prepared(subject, change)


def _targets_wrapped(batch: Batch) -> Batch:
    """The last target is the first input: a roll where a shift was meant."""
    targets = batch.targets.clone()
    targets[torch.arange(len(targets)), (batch.lengths - 1).clamp(min=0)] = batch.item_ids[:, 0]
    return batch._replace(targets=targets)


def _late_positions(logits: Tensor, batch: Batch) -> Tensor:
    each = F.cross_entropy(
        logits[batch.asked][:, 1:], batch.targets[batch.asked] - 1, reduction="none"
    )
    weight = 1.0 + batch.asked.nonzero()[:, 1].to(each)
    return (each * weight).sum() / weight.sum()


def _without_rare_rivals(subject: Subject) -> Subject:
    rank, train = subject.rank, subject.prepared().data.train
    counts = np.bincount(train.items)

    def rank_wrongly(scores: Tensor, targets: Tensor) -> Tensor:
        columns = np.flatnonzero(counts < 3)
        rare = torch.as_tensor(columns[(columns > 0) & (columns < scores.shape[1])])
        own = scores.gather(1, targets.clamp(min=0)[:, None])
        kept = scores.clone()
        kept[:, rare] = -torch.inf
        kept.scatter_(1, targets.clamp(min=0)[:, None], own)
        return rank(kept, targets)

    return subject.replace(rank=rank_wrongly)


def _half_validated(subject: Subject) -> Subject:
    evaluate = subject.evaluate

    def evaluate_wrongly(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
        prepared = given.prepared()
        val = prepared.data.val
        if name != "val":
            return evaluate(given, model, name)
        few = max(1, len(val) // 2)
        extra = pack(
            val.extra, [np.arange(*val.extra.offsets[row : row + 2]) for row in range(few)]
        )
        names = ("users", "targets", "target_times", "target_rows")
        arrays = {name: np.asarray(getattr(val, name))[:few] for name in names}
        half = dataclasses.replace(val, extra=extra, **arrays)
        return evaluate(given.replace(ready=with_data(prepared, val=half)), model, name)

    return subject.replace(evaluate=evaluate_wrongly)


def _mixed_checkpoint(subject: Subject) -> Subject:
    train = subject.train

    def train_wrongly(given: Subject, seed: int, **more: int) -> Trained:
        trained = train(given, seed, **more)
        fresh = given.build_model(given.prepared().data.num_items, seed)
        core = {k: v for k, v in trained.model.state_dict().items() if "sequence_model" not in k}
        fresh.load_state_dict(core, strict=False)
        metrics = given.evaluate(given, fresh.eval(), "test")
        return dataclasses.replace(trained, model=fresh, metrics=metrics)

    return subject.replace(train=train_wrongly)


FAULTS = (
    held_out(
        "validated_stale",
        "histories at validation lack their last event",
        "data",
        "G6 X9 X13",
        at("inference", "pad", "split"),
        _validated_stale,
    ),
    held_out(
        "shrinking_epochs",
        "every epoch has a batch less than the one before",
        "data",
        "X9 G18",
        at("pad", "batching"),
        _shrinking_epochs,
    ),
    held_out(
        "tests_repeated",
        "every tenth user is tested twice",
        "data",
        "G2 G6 X21",
        at("split", "metric"),
        _tests_repeated,
        severity=0.1,
    ),
    held_out(
        "targets_wrapped",
        "the last target of a row is its first input",
        "data",
        "X3 G2",
        at("align"),
        lambda subject: change_batches(subject, _targets_wrapped),
        severity=0.1,
    ),
    held_out(
        "late_positions_weigh",
        "targets weigh by their position",
        "training",
        "G14",
        at("loss"),
        lambda subject: change_criterion(subject, _late_positions),
    ),
    held_out(
        "without_rare_rivals",
        "items with fewer than three events are never ranked above the target",
        "evaluation",
        "X21",
        at("metric"),
        _without_rare_rivals,
    ),
    held_out(
        "half_validated",
        "the validation metric is that of the first half of the users",
        "evaluation",
        "X21",
        at("metric"),
        _half_validated,
    ),
    held_out(
        "mixed_checkpoint",
        "the sequence model is not in the checkpoint that is loaded",
        "training",
        "G21 X13",
        at("inference", "metric", "monitoring"),
        _mixed_checkpoint,
        effort="after_training",
    ),
)
