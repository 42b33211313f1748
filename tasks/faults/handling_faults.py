"""Faults of splits, ids, order and targets that were written to try the questions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tasks.data.prepared import EvaluationSplit, Histories, PackedSequences, PreparedData
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import (
    change_batches,
    change_items,
    change_prepared,
    from_rows,
    pack,
    sort_by,
    with_data,
)

Plant = Callable[[Subject], Subject]
HELD = ("targets", "target_times", "target_rows")


def tried(
    id: str, title: str, layer: Any, expected: str, stages: str, apply: Plant, **more: Any
) -> Fault:
    """A fault nobody reported: written to try the questions, and listed since."""
    source = "written to try the questions"
    return Fault(id, title, layer, source, asks(expected), at(*stages.split()), apply, **more)


def _prepared(change: Callable[[PreparedLog], PreparedLog]) -> Plant:
    return lambda subject: change_prepared(subject, change)


def _batches(change: Callable[[Batch], Batch]) -> Plant:
    return lambda subject: change_batches(subject, change)


def _validation_kept(every: int) -> Plant:
    """Leave every n-th validation target in training."""

    def change(prepared: PreparedLog) -> PreparedLog:
        train, val = prepared.data.train, prepared.data.val
        flat = PackedSequences(
            np.concatenate([train.items, val.targets]).astype(np.int32),
            np.concatenate([train.times, val.target_times]),
            np.concatenate([train.rows, val.target_rows]),
            np.zeros(1, dtype=np.int64),
        )
        parts = [np.arange(*train.offsets[user : user + 2]) for user in range(len(train))]
        for example in range(0, len(val), every):
            if val.targets[example] > 0:
                user = int(val.users[example])
                parts[user] = np.append(parts[user], len(train.items) + example)
        return with_data(prepared, train=pack(flat, parts))

    return _prepared(change)


def _partly_test(prepared: PreparedLog) -> PreparedLog:
    val, test = prepared.data.val, prepared.data.test
    _, own, other = np.intersect1d(val.users, test.users, return_indices=True)
    arrays = {name: np.array(getattr(val, name)) for name in HELD}
    for name, values in arrays.items():
        values[own[::10]] = np.asarray(getattr(test, name))[other[::10]]
    return with_data(prepared, val=dataclasses.replace(val, **arrays))


def _exchanged(prepared: PreparedLog) -> PreparedLog:
    val, test = prepared.data.val, prepared.data.test
    return with_data(
        prepared,
        val=dataclasses.replace(test, name="val"),
        test=dataclasses.replace(val, name="test"),
    )


def _next_user(prepared: PreparedLog) -> PreparedLog:
    test = prepared.data.test
    users = np.roll(np.asarray(test.users), 1)
    return with_data(prepared, test=dataclasses.replace(test, users=users))


def _history_of_test(subject: Subject) -> Subject:
    make = subject.make_histories

    def make_late(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        place = {int(user): example for example, user in enumerate(data.test.users)}
        later = [place.get(int(user), -1) for user in np.asarray(split.users)[index]]
        if split.name != "val" or min(later, default=-1) < 0:
            return make(data, split, index, max_len)
        return make(data, data.test, np.array(later), max_len)

    return subject.replace(make_histories=make_late)


def _ids_drawn(subject: Subject) -> Subject:
    prepare, count = subject.prepare, itertools.count()

    def prepare_anew(log: RawLog) -> PreparedLog:
        prepared = prepare(log)
        drawn = np.random.default_rng(next(count)).permutation(prepared.data.num_items)
        ids = np.concatenate([[0], 1 + drawn])
        labels = np.asarray(prepared.item_labels)[np.argsort(ids)]
        return dataclasses.replace(change_items(prepared, lambda i: ids[i]), item_labels=labels)

    return subject.replace(prepare=prepare_anew)


def _ties_drawn(subject: Subject) -> Subject:
    prepare, count = subject.prepare, itertools.count()

    def prepare_anew(log: RawLog) -> PreparedLog:
        order = np.random.default_rng(next(count)).permutation(len(log))
        return from_rows(prepare(log.keep(order)), order)

    return subject.replace(prepare=prepare_anew)


def _rarest_shared(prepared: PreparedLog) -> PreparedLog:
    last = prepared.data.num_items
    return change_items(prepared, lambda item: np.where(item == last, last - 1, item))


def _labels_exchanged(prepared: PreparedLog) -> PreparedLog:
    labels = np.array(prepared.item_labels)
    labels[[1, 2]] = labels[[2, 1]]
    return dataclasses.replace(prepared, item_labels=labels)


def _last_two_exchanged(prepared: PreparedLog) -> PreparedLog:
    train = prepared.data.train
    parts = [np.arange(*train.offsets[user : user + 2]) for user in range(len(train))]
    for part in parts:
        part[-2:] = part[-2:][::-1].copy()
    return with_data(prepared, train=pack(train, parts))


def _seconds_as_text(log: RawLog) -> np.ndarray:
    user = np.unique(log.user, return_inverse=True)[1]
    first = np.full(user.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, user, log.time)
    text = ((log.time - first[user]) // 1_000_000).astype(str)
    return np.unique(text, return_inverse=True)[1].astype(np.int64)


def _padding_asked(batch: Batch) -> Batch:
    """The first padded position asks for the row's last target once more."""
    targets = batch.targets.clone()
    rows = ((batch.lengths > 0) & (batch.lengths < targets.shape[1])).nonzero().flatten()
    targets[rows, batch.lengths[rows]] = targets[rows, batch.lengths[rows] - 1]
    return batch._replace(targets=targets)


def _last_unasked(batch: Batch) -> Batch:
    targets = batch.targets.clone()
    targets[torch.arange(len(targets)), (batch.lengths - 1).clamp(min=0)] = 0
    return batch._replace(targets=targets)


def _some_after_next(batch: Batch) -> Batch:
    targets = batch.targets.clone()
    targets[::10, :-1] = batch.targets[::10, 1:]
    return batch._replace(targets=targets * batch.asked)


FAULTS = (
    tried(
        "validation_kept",
        "a tenth of the validation targets stays in training",
        "data",
        "G2 G6",
        "split",
        _validation_kept(10),
        severity=0.1,
    ),
    tried(
        "partly_test",
        "a tenth of the validation targets are those of test",
        "data",
        "G2 G6",
        "split",
        _prepared(_partly_test),
        severity=0.1,
    ),
    tried(
        "validation_after_test",
        "validation comes after test",
        "data",
        "G2 G6",
        "split",
        _prepared(_exchanged),
    ),
    tried(
        "tests_of_next_user",
        "test examples belong to the next user",
        "data",
        "G2 G6 X2 G3",
        "split order align",
        _prepared(_next_user),
    ),
    tried(
        "validation_history_late",
        "histories at validation end with the validation target",
        "data",
        "G2 X9 G6 X13",
        "split inference",
        _history_of_test,
    ),
    tried(
        "ids_drawn",
        "ids are drawn anew at every preparation",
        "data",
        "G7 G6",
        "encode stochastic",
        _ids_drawn,
    ),
    tried(
        "ties_drawn",
        "equal times are put in another order at every preparation",
        "data",
        "G6 X2",
        "order stochastic",
        _ties_drawn,
        needs={"equal_times": True},
    ),
    tried(
        "rarest_shared",
        "two items share an id",
        "data",
        "G7 X4",
        "encode",
        _prepared(_rarest_shared),
        severity=0.05,
    ),
    tried(
        "labels_exchanged",
        "two entries of the stored vocabulary are exchanged",
        "data",
        "G7 G3 X2",
        "encode order format",
        _prepared(_labels_exchanged),
        severity=0.05,
    ),
    tried(
        "last_two_exchanged",
        "the last two training events of every user are exchanged",
        "data",
        "X2",
        "order",
        _prepared(_last_two_exchanged),
    ),
    tried(
        "times_as_text",
        "times are sorted as text",
        "data",
        "X2",
        "order time",
        lambda subject: sort_by(subject, _seconds_as_text),
    ),
    tried(
        "padding_asked",
        "the first padded position asks for the last target once more",
        "data",
        "G4 G2 X3 X5 G3",
        "pad align format",
        _batches(_padding_asked),
        severity=0.1,
    ),
    tried(
        "last_unasked",
        "the last target of every row is masked",
        "data",
        "X9 G18",
        "pad batching align",
        _batches(_last_unasked),
    ),
    tried(
        "some_after_next",
        "a tenth of the rows has the events after the next as targets",
        "data",
        "X3 G2",
        "align",
        _batches(_some_after_next),
        severity=0.1,
    ),
)
