"""The healthy program with other batches or other prepared data."""

from __future__ import annotations

import dataclasses

import numpy as np

from tasks.diagnostics.probe import Probe


def with_batches(toy, change) -> Probe:
    """The healthy program with every batch changed."""
    original = toy().make_batches

    def make(prepared, seed, epoch):
        for batch in original(prepared, seed, epoch):
            yield change(batch)

    return Probe(toy(make_batches=make))


def with_data(toy, change) -> Probe:
    """The healthy program with other prepared data; `change` gets data and returns its fields."""
    original = toy().prepare

    def prepare(log):
        prepared = original(log)
        data = dataclasses.replace(prepared.data, **change(prepared.data))
        return dataclasses.replace(prepared, data=data)

    return Probe(toy(prepare=prepare))


def renumbered(prepared, order: np.ndarray):
    """Give the item with present id `order[i]` the id i + 1, everywhere."""
    new_id = np.zeros(prepared.data.num_items + 1, dtype=np.int64)
    new_id[order] = np.arange(1, len(order) + 1)

    def packed(part):
        return dataclasses.replace(part, items=new_id[part.items].astype(np.int32))

    def split(part):
        return dataclasses.replace(part, targets=new_id[part.targets], extra=packed(part.extra))

    data = prepared.data
    changed = dataclasses.replace(
        data, train=packed(data.train), val=split(data.val), test=split(data.test)
    )
    labels = np.concatenate([prepared.item_labels[:1], prepared.item_labels[order]])
    return dataclasses.replace(prepared, data=changed, item_labels=labels)
