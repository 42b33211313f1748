"""Is there exactly one encoded id per raw item, the same one wherever the item stands?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.measurements.log_join import as_text
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import RawLog


@dataclass(frozen=True)
class IdMap:
    """Breaches of the one-to-one relation between raw and encoded items."""

    num_items: int = quantity("items in the vocabulary")
    raw_with_several_ids: int = quantity("raw items encoded as more than one id")
    ids_with_several_raws: int = quantity("ids that stand for more than one raw item")
    held_out_disagreements: int = quantity("held-out events encoded otherwise than in training")
    label_disagreements: int = quantity("events whose vocabulary entry is another raw item")
    repeated_labels: int = quantity("vocabulary entries that occur twice")
    out_of_range: int = quantity("encoded items outside 1..num_items")
    padding_ids: int = quantity("real events encoded as the padding id 0")
    unused_ids: int = quantity("ids in 1..num_items that no event has")
    smallest_id: int = quantity("smallest encoded item")
    largest_id: int = quantity("largest encoded item")
    differs_when_renamed: bool | None = quantity("items get other ids under longer names")
    first_collision: str = ""


def measure(probe: Probe) -> IdMap:
    """Pair the encoded item of every event with the raw item of its row, over all splits."""
    log, prepared = probe.subject.log, probe.prepared
    if log is None:
        raise NotOfferedError("log")
    data = prepared.data
    parts = {
        "train": (data.train.items, data.train.rows),
        "val history": (data.val.extra.items, data.val.extra.rows),
        "test history": (data.test.extra.items, data.test.extra.rows),
        "val": (data.val.targets, data.val.target_rows),
        "test": (data.test.targets, data.test.target_rows),
    }
    items = np.concatenate([np.asarray(i, dtype=np.int64) for i, _ in parts.values()])
    rows = np.concatenate([np.asarray(r, dtype=np.int64) for _, r in parts.values()])
    held_out = np.arange(len(items)) >= len(data.train.items)
    known = (rows >= 0) & (rows < len(log)) & (items != -1)  # -1 is a target without an id
    if not known.any():
        raise NotMeasuredError("row numbers of the raw log in the prepared data")
    items, held_out = items[known], held_out[known]
    raw_labels, raw = np.unique(as_text(log.item)[rows[known]], return_inverse=True)
    real = items > 0
    pairs = np.unique(np.stack([raw[real], items[real]], axis=1), axis=0)
    raw_repeats = len(pairs) - len(np.unique(pairs[:, 0]))
    id_counts = np.unique(pairs[:, 1], return_counts=True)
    labels = as_text(prepared.item_labels)
    inside = (items >= 1) & (items < len(labels))
    decoded = labels[np.where(inside, items, 0)]
    collision = id_counts[0][id_counts[1] > 1]
    return IdMap(
        num_items=data.num_items,
        raw_with_several_ids=raw_repeats,
        ids_with_several_raws=len(collision),
        held_out_disagreements=_disagreements(raw, items, held_out),
        label_disagreements=int((inside & (decoded != raw_labels[raw])).sum()),
        repeated_labels=len(labels) - 1 - len(np.unique(labels[1:])),
        out_of_range=int(((items < 0) | (items > data.num_items)).sum()),
        padding_ids=int((items == 0).sum()),
        unused_ids=int(data.num_items - len(np.unique(items[inside]))),
        smallest_id=int(items.min()),
        largest_id=int(items.max()),
        differs_when_renamed=_differs_when_renamed(probe),
        first_collision=_describe(collision, pairs, raw_labels),
    )


def _disagreements(raw: np.ndarray, items: np.ndarray, held_out: np.ndarray) -> int:
    """Held-out events whose raw item has another id in training."""
    table = np.full(int(raw.max()) + 1, -1)
    table[raw[~held_out]] = items[~held_out]
    trained = table[raw[held_out]]
    return int(((trained >= 0) & (trained != items[held_out])).sum())


def _differs_when_renamed(probe: Probe) -> bool | None:
    """Prepare the log once more with a 0 behind every item's name.

    That keeps the order of names, as numbers and as text, so ids that follow any order of names,
    counts or first appearance stay; ids that follow a hash do not.
    """
    log = probe.subject.log
    if probe.subject.prepare is None:
        return None
    longer = log.item * 10 if log.item.dtype.kind in "iu" else np.char.add(as_text(log.item), "0")
    renamed = np.where(as_text(log.item) == "", log.item, longer)
    again = probe.ask("prepare", RawLog(log.user, renamed, log.time, log.rating))
    return not np.array_equal(again.data.train.items, probe.data.train.items)


def _describe(collision: np.ndarray, pairs: np.ndarray, raw_labels: np.ndarray) -> str:
    if not len(collision):
        return ""
    raws = raw_labels[pairs[pairs[:, 1] == collision[0], 0]]
    return f"id {collision[0]} stands for {', '.join(raws[:3].tolist())}"
