"""Faults of the encoding: which id an item gets, and from which rows that is learnt."""

from __future__ import annotations

import dataclasses

import numpy as np

from tasks.data.prepared import EvaluationSplit
from tasks.diagnostics.subject import PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.log_faults import SEED
from tasks.faults.planting import (
    change_held_out_items,
    change_items,
    change_prepared,
    redeclare,
    with_data,
)

MIN_ITEM_EVENTS = 3


def _zero_based(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        shifted = change_items(prepared, lambda items: items - 1)
        labels = np.roll(prepared.item_labels, -1)
        return dataclasses.replace(shifted, item_labels=labels)

    return change_prepared(subject, change)


def _collide(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        num_items = prepared.data.num_items
        buckets = max(2, int(0.6 * num_items))
        to_bucket = np.arange(num_items + 1) * 7919 % buckets + 1
        labels = np.full(buckets + 1, prepared.item_labels[0])
        labels[to_bucket[1:]] = prepared.item_labels[1:]
        hashed = change_items(prepared, lambda items: to_bucket[items])
        return dataclasses.replace(with_data(hashed, num_items=buckets), item_labels=labels)

    return change_prepared(subject, change)


def _other_map(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        order = np.random.default_rng(SEED).permutation(prepared.data.num_items) + 1
        other = np.concatenate([[0], order])
        return change_held_out_items(prepared, lambda items: other[items])

    return change_prepared(subject, change)


def _unknown_is_padding(subject: Subject) -> Subject:
    def split(held_out: EvaluationSplit) -> EvaluationSplit:
        return dataclasses.replace(held_out, targets=np.maximum(held_out.targets, 0))

    def change(prepared: PreparedLog) -> PreparedLog:
        data = prepared.data
        return with_data(prepared, val=split(data.val), test=split(data.test))

    return change_prepared(subject, change)


def _renumbered(prepared: PreparedLog, order: np.ndarray) -> PreparedLog:
    """Let `order[i]` be the present id of the item that gets id i + 1."""
    new_id = np.zeros(prepared.data.num_items + 1, dtype=np.int64)
    new_id[order] = np.arange(1, len(order) + 1)
    labels = np.concatenate([prepared.item_labels[:1], prepared.item_labels[order]])
    renumbered = change_items(prepared, lambda items: new_id[items])
    return dataclasses.replace(renumbered, item_labels=labels)


def _order_of_a_set(subject: Subject) -> Subject:
    def change(prepared: PreparedLog) -> PreparedLog:
        names = [str(name) for name in prepared.item_labels[1:]]
        place = {name: number for number, name in enumerate(set(names))}
        return _renumbered(prepared, np.argsort([place[name] for name in names]) + 1)

    return change_prepared(subject, change)


def _numbered_by_all_events(subject: Subject) -> Subject:
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        prepared = prepare(given)
        names, counts = np.unique(given.item, return_counts=True)
        popularity = dict(zip(names.tolist(), counts.tolist(), strict=True))
        labels = prepared.item_labels[1:].tolist()
        order = sorted(range(len(labels)), key=lambda i: (-popularity[labels[i]], labels[i]))
        return _renumbered(prepared, np.array(order) + 1)

    return subject.replace(prepare=prepare_wrongly)


def _declared_from_training(subject: Subject) -> Subject:
    return redeclare(subject, corpus="train")


FAULTS = (
    Fault(
        id="zero_based",
        title="items are numbered from 0, which is padding's id",
        layer="data",
        source="SASRec.pytorch 27; questionnaire X4",
        expected=asks("X4 G7"),
        stages=at("encode"),
        apply=_zero_based,
    ),
    Fault(
        id="id_collision",
        title="item ids are hashed into fewer buckets than there are items",
        layer="data",
        source="DeepCrime, overlapping output classes",
        expected=asks("G7 X4"),
        stages=at("encode"),
        apply=_collide,
    ),
    Fault(
        id="enc_mismatch",
        title="validation and test are encoded with another map than training",
        layer="data",
        source="deepchecks, new category; FL4Deep, training and deployment differ",
        expected=asks("G6 G7"),
        stages=at("encode"),
        apply=_other_map,
    ),
    Fault(
        id="unknown_is_padding",
        title="held-out items without an id become padding",
        layer="data",
        source="deepchecks, new category; a lookup with default 0",
        expected=asks("X4 G7 G4"),
        stages=at("encode", "pad"),
        apply=_unknown_is_padding,
        needs={"vocabulary": "train", "cold_items": 12},
    ),
    Fault(
        id="hash_ordered_ids",
        title="items are numbered in the order of a set of strings, which changes per process",
        layer="data",
        source="enumerate(set(items)) in private training scripts",
        expected=asks("G7"),
        stages=at("encode"),
        apply=_order_of_a_set,
    ),
    Fault(
        id="ids_from_all_events",
        title="items are numbered by a popularity that counts held-out events",
        layer="data",
        source="deepchecks; Hidasi and Czapp 2023, preprocessing fitted on everything",
        expected=asks("G6"),
        stages=at("encode", "split"),
        apply=_numbered_by_all_events,
        needs={"vocabulary": "train"},
    ),
    Fault(
        id="filter_from_all_events",
        title="the k-core counts held-out events although training events were declared",
        layer="data",
        source="Hidasi and Czapp 2023, preprocessing before the split",
        expected=asks("G6"),
        stages=at("split", "encode"),
        apply=_declared_from_training,
        settings={"corpus": "full"},
        needs={
            "corpus": "train",
            "vocabulary": "train",
            "rare_items": 12,
            "min_item_events": MIN_ITEM_EVENTS,
        },
    ),
)
