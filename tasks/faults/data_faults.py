"""Faults of preparation: order, ids, splits, alignment."""

from __future__ import annotations

import dataclasses

import numpy as np

from tasks.diagnostics.subject import Batch, PreparedLog, Subject
from tasks.faults.fault import Fault, change_prepared


def _ignore_time(prepared: PreparedLog) -> PreparedLog:
    train = prepared.data.train
    owner = np.repeat(np.arange(len(train)), train.lengths)
    order = np.lexsort((train.rows, owner))
    items, times, rows = (np.asarray(a)[order] for a in (train.items, train.times, train.rows))
    packed = dataclasses.replace(train, items=items, times=times, rows=rows)
    return dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, train=packed))


def _no_sort(subject: Subject) -> Subject:
    return change_prepared(subject, _ignore_time)


def _predict_the_input(subject: Subject) -> Subject:
    make = subject.make_batches

    def make_unshifted(prepared: PreparedLog, seed: int):
        for batch in make(prepared, seed):
            yield Batch(
                item_ids=batch.item_ids,
                targets=batch.item_ids.clone(),
                mask=batch.mask,
                times=batch.times,
                users=batch.users,
                seed=batch.seed,
            )

    return subject.replace(make_batches=make_unshifted)


FAULTS = (
    Fault(
        id="no_sort",
        title="events of a user stay in file order",
        layer="data",
        severity=1.0,
        source="cornac PR 708 adds a warning for it",
        expected=frozenset({"events_in_time_order"}),
        stages=frozenset({"order"}),
        apply=_no_sort,
    ),
    Fault(
        id="no_shift",
        title="the target of each position is its own input",
        layer="data",
        severity=1.0,
        source="off-by-one in the shift of inputs and targets",
        expected=frozenset({"inputs_match_targets", "targets_shifted_by_one"}),
        stages=frozenset({"align"}),
        quiet=frozenset({"events_in_time_order"}),
        apply=_predict_the_input,
    ),
)
