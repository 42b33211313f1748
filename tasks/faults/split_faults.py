"""Faults of the split: what is held out, and what of it comes back into training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tasks.data.prepared import EvaluationSplit, Histories, PackedSequences, PreparedData
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.log_faults import SEED
from tasks.faults.planting import change_prepared, pack, with_data, with_times


def whole_sequences(data: PreparedData) -> PackedSequences:
    """Return every user's training events followed by what validation and test hold out."""
    train = data.train
    items = [train.items, data.val.targets, data.test.targets]
    times = [train.times, data.val.target_times, data.test.target_times]
    rows = [train.rows, data.val.target_rows, data.test.target_rows]
    owner = [np.repeat(np.arange(len(train)), train.lengths), data.val.users, data.test.users]
    flat = PackedSequences(
        items=np.concatenate(items).astype(np.int32),
        times=np.concatenate(times),
        rows=np.concatenate(rows),
        offsets=np.zeros(1, dtype=np.int64),
    )
    owners = np.concatenate(owner)
    # Cold targets have no id; parts are in order of time, so a stable sort keeps it.
    order = np.argsort(owners, kind="stable")
    order = order[flat.items[order] > 0]
    counts = np.bincount(owners[order], minlength=len(train))
    return pack(flat, np.split(order, np.cumsum(counts)[:-1]))


def _train_on_everything(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, *when: int) -> Iterator[Batch]:
        yield from make(with_data(prepared, train=whole_sequences(prepared.data)), *when)

    return subject.replace(make_batches=make_wrongly)


def _append_users(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        data, whole = prepared.data, whole_sequences(prepared.data)
        again = np.arange(0, len(data.train), 2)
        joined = PackedSequences(
            *(
                np.concatenate([getattr(data.train, name), getattr(whole, name)])
                for name in ("items", "times", "rows")
            ),
            offsets=np.zeros(1, dtype=np.int64),
        )
        first, shift = data.train.offsets, len(data.train.items)
        parts = [np.arange(first[u], first[u + 1]) for u in range(len(data.train))]
        parts += [np.arange(whole.offsets[u], whole.offsets[u + 1]) + shift for u in again]
        labels = np.concatenate([prepared.user_labels, prepared.user_labels[again]])
        more = with_data(prepared, train=pack(joined, parts), num_users=len(parts))
        return dataclasses.replace(more, user_labels=labels)

    return change_prepared(subject, change)


def _target_in_history(subject: Subject) -> Subject:
    make = subject.make_histories

    def make_wrongly(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        given = make(data, split, index, max_len)
        targets = np.maximum(split.targets[index], 0)
        rows = np.arange(len(index))
        item_ids, times = (np.pad(part, ((0, 0), (0, 1))) for part in (given[0], given[2]))
        item_ids[rows, given.lengths] = targets
        times[rows, given.lengths] = split.target_times[index]
        lengths = given.lengths + 1
        # Rows that are too long now lose their first event.
        start = np.maximum(lengths - max_len, 0)[:, None]
        columns = np.minimum(start + np.arange(min(max_len, item_ids.shape[1])), lengths.max() - 1)
        real = np.arange(columns.shape[1]) < np.minimum(lengths, max_len)[:, None]
        item_ids, times = (np.take_along_axis(part, columns, 1) for part in (item_ids, times))
        return Histories(item_ids * real, np.minimum(lengths, max_len), times * real)

    return subject.replace(make_histories=make_wrongly)


def _random_split(subject: Subject) -> Subject:
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        drawn = np.random.default_rng(SEED).permutation(len(given))
        prepared = prepare(RawLog(given.user, given.item, drawn.astype(np.int64), given.rating))
        timed = with_times(prepared, given.time)
        train = timed.data.train
        owner = np.repeat(np.arange(len(train)), train.lengths)
        order = np.lexsort((train.rows, train.times, owner))
        parts = np.split(order, train.offsets[1:-1])
        return with_data(timed, train=pack(train, parts))

    return subject.replace(prepare=prepare_wrongly)


def _collapse_training_repeats(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        train = prepared.data.train
        owner = np.repeat(np.arange(len(train)), train.lengths)
        fresh = np.ones(len(owner), dtype=bool)
        fresh[1:] = (train.items[1:] != train.items[:-1]) | (owner[1:] != owner[:-1])
        kept = np.flatnonzero(fresh)
        counts = np.bincount(owner[kept], minlength=len(train))
        return with_data(prepared, train=pack(train, np.split(kept, np.cumsum(counts)[:-1])))

    return change_prepared(subject, change)


FAULTS = (
    Fault(
        id="train_has_test",
        title="training windows are cut from whole sequences, held-out events included",
        layer="data",
        source="RecBole 620",
        expected=asks("G2 G6"),
        stages=at("split"),
        apply=_train_on_everything,
    ),
    Fault(
        id="dup_users",
        title="whole sequences of half the users are appended to training",
        layer="data",
        source="deepchecks, samples shared by training and test",
        expected=asks("G2 G6"),
        stages=at("split"),
        apply=_append_users,
        severity=0.5,
    ),
    Fault(
        id="target_in_history",
        title="the history that is scored ends with its own target",
        layer="data",
        source="RecBole 1649",
        expected=asks("G2 X3"),
        stages=at("split"),
        apply=_target_in_history,
    ),
    Fault(
        id="random_split",
        title="two random events of each user are held out instead of the last two",
        layer="data",
        source="Ji et al. 2020, random splits of time-ordered data",
        expected=asks("G2 X2"),
        stages=at("split", "order"),
        apply=_random_split,
    ),
    Fault(
        id="repeats_collapsed_in_training",
        title="immediate repeats are dropped in training, not at evaluation",
        layer="data",
        source="preprocessing applied to one split",
        expected=asks("G6 X2"),
        stages=at("split", "order", "encode"),
        apply=_collapse_training_repeats,
        needs={"repeat_share": 0.3},
    ),
)
