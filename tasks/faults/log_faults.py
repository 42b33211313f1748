"""Faults of reading and ordering the log: sorting, times, duplicates, item ids on wrong events."""

from __future__ import annotations

import numpy as np

from tasks.diagnostics.subject import PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_log, from_rows, sort_by

SEED = 20_240_607
"""Of whatever a fault draws; the same in every program it is planted in."""


def _file_order(log: RawLog) -> np.ndarray:
    return np.arange(len(log), dtype=np.int64)


def _no_sort(subject: Subject) -> Subject:
    return sort_by(subject, _file_order)


def _sort_descending(subject: Subject) -> Subject:
    return sort_by(subject, lambda log: log.time.max() - log.time)


def _shuffle_items(subject: Subject) -> Subject:
    def change(log: RawLog) -> RawLog:
        order = np.lexsort((log.time, log.user))
        item = log.item.copy()
        item[order] = log.item[np.random.default_rng(SEED).permutation(order)]
        return RawLog(log.user, item, log.time, log.rating)

    return change_log(subject, change)


def _roll_times(subject: Subject) -> Subject:
    return change_log(
        subject, lambda log: RawLog(log.user, log.item, np.roll(log.time, 1), log.rating)
    )


def _missing_times(subject: Subject) -> Subject:
    def change(log: RawLog) -> RawLog:
        time = log.time.copy()
        # What a missing time becomes when a column of dates is cast to int64.
        time[::3] = np.iinfo(np.int64).min
        return RawLog(log.user, log.item, time, log.rating)

    return change_log(subject, change)


def _corrupt_items(share: float):
    def plant(subject: Subject) -> Subject:
        def change(log: RawLog) -> RawLog:
            rng = np.random.default_rng(SEED)
            chosen = np.flatnonzero(rng.random(len(log)) < share)
            item = log.item.copy()
            item[chosen] = log.item[rng.permutation(chosen)]
            return RawLog(log.user, item, log.time, log.rating)

        return change_log(subject, change)

    return plant


def _mixed_units(subject: Subject) -> Subject:
    def change(log: RawLog) -> RawLog:
        half = np.random.default_rng(SEED).random(len(log)) < 0.5
        return RawLog(log.user, log.item, np.where(half, log.time // 1000, log.time), log.rating)

    return change_log(subject, change)


def _concatenate_twice(subject: Subject) -> Subject:
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        twice = np.tile(np.arange(len(given)), 2)
        return from_rows(prepare(given.keep(twice)), twice)

    return subject.replace(prepare=prepare_wrongly)


def _cut_users(subject: Subject) -> Subject:
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        order = np.lexsort((np.arange(len(given)), given.time, given.user))
        _, user = np.unique(given.user[order], return_inverse=True)
        from_end = np.cumsum(np.bincount(user))[user] - np.arange(len(order))
        kept = np.sort(order[(user % 2 == 1) | (from_end <= 3)])
        return from_rows(prepare(given.keep(kept)), kept)

    return subject.replace(prepare=prepare_wrongly)


def _few_items(subject: Subject) -> Subject:
    log = subject.log
    labels, code = np.unique(log.item, return_inverse=True)
    shelf = np.array([f"shelf{n}" for n in range(6)])
    item = shelf[np.arange(len(labels)) % 6][code]
    return subject.replace(log=RawLog(log.user, item, log.time, log.rating))


FAULTS = (
    Fault(
        id="no_sort",
        title="events of a user stay in file order",
        layer="data",
        source="cornac PR 708 (a warning for unsorted data); questionnaire X2",
        expected=asks("X2 G11"),
        stages=at("order"),
        apply=_no_sort,
    ),
    Fault(
        id="sort_desc",
        title="events are sorted from the latest to the earliest",
        layer="data",
        source="questionnaire X2",
        expected=asks("X2"),
        stages=at("order"),
        apply=_sort_descending,
    ),
    Fault(
        id="shuffle_across_users",
        title="the item column is permuted over the whole log",
        layer="data",
        source="DeepCrime, change of labels",
        expected=asks("X2 G2"),
        stages=at("order"),
        apply=_shuffle_items,
    ),
    Fault(
        id="ts_misaligned",
        title="the time column is shifted by one row before sorting",
        layer="data",
        source="TheDeepChecker, unaligned features and labels",
        expected=asks("X7 X2"),
        stages=at("time", "order"),
        apply=_roll_times,
    ),
    Fault(
        id="nan_ts",
        title="every third time is missing and becomes the smallest integer",
        layer="data",
        source="TheDeepChecker, NaN values in data",
        expected=asks("X7"),
        stages=at("time"),
        apply=_missing_times,
    ),
    Fault(
        id="item_labels_corrupt",
        title="60 % of the item ids stand on other events",
        layer="data",
        source="DeepCrime, change of labels; TheDeepChecker, wrong labels",
        expected=asks("G2 X2"),
        stages=at("order"),
        apply=_corrupt_items(0.6),
        severity=0.6,
    ),
    Fault(
        id="item_labels_corrupt_few",
        title="5 % of the item ids stand on other events",
        layer="data",
        source="DeepCrime, change of labels, in its mildest form",
        expected=asks("G2 X2"),
        stages=at("order"),
        apply=_corrupt_items(0.05),
        severity=0.05,
    ),
    Fault(
        id="short_seqs",
        title="half of the users keep only their last three events",
        layer="data",
        source="questionnaire X6; DeepCrime, delete training data",
        expected=asks("X6 X9"),
        stages=at("order", "distribution", "split"),
        apply=_cut_users,
        severity=0.5,
    ),
    Fault(
        id="mixed_units",
        title="half of the times are read in a unit a thousand times too small",
        layer="data",
        source="logs merged from two exports, seconds and milliseconds",
        expected=asks("X7"),
        stages=at("time", "order"),
        apply=_mixed_units,
    ),
    Fault(
        id="duplicated_events",
        title="the log is concatenated twice, so every event occurs two times",
        layer="data",
        source="deepchecks, data duplicates",
        expected=asks("G5 X2 G2"),
        stages=at("order", "split", "distribution"),
        apply=_concatenate_twice,
    ),
    Fault(
        id="few_items",
        title="the log holds six shelves instead of the items that lay on them",
        layer="data",
        source="a join that kept the category column instead of the item column",
        expected=asks("G5"),
        stages=at("distribution"),
        apply=_few_items,
    ),
)
