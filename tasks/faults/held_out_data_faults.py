"""Faults of data and evaluation that were written apart from the others, to be scored once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tasks.data.prepared import PackedSequences
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import (
    change_batches,
    change_histories,
    change_log,
    change_prepared,
    from_rows,
    sort_by,
    with_data,
)

MICROSECONDS_PER_DAY = 86_400_000_000


def _whole_days(subject: Subject) -> Subject:
    def days_then_items(log: RawLog) -> np.ndarray:
        item = np.unique(log.item, return_inverse=True)[1]
        return log.time // MICROSECONDS_PER_DAY * 1_000_000 + item

    return sort_by(subject, days_then_items)


def _joined_twice(subject: Subject) -> Subject:
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        # Every tenth item has two genres, so its events match two rows of the item table.
        two_genres = np.unique(given.item)[::10]
        rows = np.repeat(np.arange(len(given)), 1 + np.isin(given.item, two_genres))
        return from_rows(prepare(given.keep(rows)), rows)

    return subject.replace(prepare=prepare_wrongly)


def _short_user_ids(subject: Subject) -> Subject:
    def change(log: RawLog) -> RawLog:
        users, code = np.unique(log.user, return_inverse=True)
        cut = np.array([user[:-1] or user for user in users.astype(str)])
        return RawLog(cut[code], log.item, log.time, log.rating)

    return change_log(subject, change)


def _validation_is_test(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        val = dataclasses.replace(prepared.data.test, name="val")
        return with_data(prepared, val=val)

    return change_prepared(subject, change)


def _first_events_only(subject: Subject) -> Subject:
    make, longest = subject.make_batches, subject.declared.max_seq_len // 2

    def make_wrongly(prepared: PreparedLog, *when: int) -> Iterator[Batch]:
        train = prepared.data.train
        column = np.arange(len(train.items)) - np.repeat(train.offsets[:-1], train.lengths)
        kept = np.flatnonzero(column <= longest)
        lengths = np.minimum(train.lengths, longest + 1)
        fields = {name: getattr(train, name)[kept] for name in ("items", "times", "rows")}
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        yield from make(
            with_data(prepared, train=PackedSequences(**fields, offsets=offsets)), *when
        )

    return subject.replace(make_batches=make_wrongly)


def _mask_one_short(batch: Batch) -> Batch:
    lengths = (batch.lengths - 1).clamp(min=1)
    mask = torch.arange(batch.mask.shape[1]) < lengths[:, None]
    return batch._replace(mask=mask)


def _always_first_batch(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, *when: int) -> Iterator[Batch]:
        batches = list(make(prepared, *when))
        yield from (batches[0] for _ in batches)

    return subject.replace(make_batches=make_wrongly)


def _same_rows_dropped(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, seed: int, epoch: int) -> Iterator[Batch]:
        # Never shuffled anew, and the last, smaller batches are dropped.
        batches = list(make(prepared, 0, 0))
        yield from batches[: max(1, int(0.7 * len(batches)))]

    return subject.replace(make_batches=make_wrongly)


def _seconds_for_microseconds(subject: Subject) -> Subject:
    changed = change_batches(subject, lambda batch: batch._replace(times=batch.times // 1_000_000))
    return change_histories(changed, lambda given: given._replace(times=given.times // 1_000_000))


def held_out(
    id: str,
    title: str,
    layer: Any,
    expected: str,
    stages: frozenset[str],
    apply: Callable[[Subject], Subject],
    **more: Any,
) -> Fault:
    """A fault of the held-out set: nobody reported it, it was written for this set."""
    return Fault(id, title, layer, "written for this set", asks(expected), stages, apply, **more)


FAULTS = (
    held_out(
        "whole_days",
        "times are cut to days before sorting, and events of a day are sorted by item",
        "data",
        "X2",
        at("order", "time"),
        _whole_days,
    ),
    held_out(
        "joined_twice",
        "a join with the item table doubles the events of items with two genres",
        "data",
        "G5 X2 G2 G7",
        at("order", "split", "distribution"),
        _joined_twice,
    ),
    held_out(
        "short_user_ids",
        "user ids lose their last character, so that users are merged",
        "data",
        "X2 G7 G2",
        at("order", "encode"),
        _short_user_ids,
    ),
    held_out(
        "validation_is_test",
        "validation holds the examples of test",
        "data",
        "G2 G6",
        at("split"),
        _validation_is_test,
    ),
    held_out(
        "first_events_only",
        "training keeps the first events of long sequences and drops the rest",
        "data",
        "X9 G18",
        at("pad", "batching"),
        _first_events_only,
    ),
    held_out(
        "mask_one_short",
        "the mask ends one position early",
        "data",
        "G3 G4 X5 X9",
        at("pad", "format"),
        lambda subject: change_batches(subject, _mask_one_short),
    ),
    held_out(
        "always_first_batch",
        "the data loader gives its first batch again and again",
        "data",
        "X9 G18 G2",
        at("pad", "batching"),
        _always_first_batch,
    ),
    held_out(
        "same_rows_dropped",
        "the same third of the rows is left out of every epoch",
        "data",
        "X9 G18",
        at("pad", "batching"),
        _same_rows_dropped,
    ),
    held_out(
        "seconds_for_microseconds",
        "the model is given seconds where it expects microseconds",
        "data",
        "X7",
        at("time"),
        _seconds_for_microseconds,
        needs={"time_gaps": True},
    ),
)
