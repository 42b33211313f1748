"""A few real windows to memorise, and what identical pasts leave open in them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import torch

from tasks.diagnostics.measurements import loss_forms
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.subject import Batch


def choose_windows(probe: Probe, rows: int, positions: int) -> Batch:
    """Return real windows that repeat items most, so that memory is needed to tell targets apart.

    Rows are cut to their first real events, wherever padding stands.
    """
    batch = max(probe.all_batches[:8], key=lambda b: min(int(b.num_targets), rows * positions))
    counts = Counter(batch.item_ids[batch.mask].tolist())
    repeats = [
        (
            sum(counts[item] - 1 for item in row[mask][:positions].tolist())
            if int(mask.sum()) >= min(positions, 3)
            else -1
        )
        for row, mask in zip(batch.item_ids, batch.mask, strict=True)
    ]
    chosen = batch.rows(
        torch.as_tensor(np.argsort(-np.array(repeats), kind="stable")[:rows].copy())
    )
    start = int(chosen.mask.float().argmax(dim=1).min())
    chosen = chosen.columns(slice(start, start + positions))
    kept = chosen.rows(chosen.asked.any(dim=1))
    if kept.num_targets < 3:
        raise NotMeasuredError("a training window of three targets")
    return kept


def reachable_floor(probe: Probe, batch: Batch) -> float:
    """Return the smallest mean loss of any model that sees the past alone, in nats.

    Targets after identical prefixes cannot all be predicted: their entropy stays. Of a model that
    is declared to read the last event alone, the prefix is that event. Losses over drawn
    negatives have a floor of about 0: no two targets of one prefix are compared with each other.
    """
    declared = probe.subject.declared
    if declared.loss not in loss_forms.FULL_LOSSES:
        return 0.0
    groups = prefixes(probe, batch)
    total = sum(sum(counter.values()) for counter in groups.values())
    smoothing, num_items = declared.label_smoothing, probe.data.num_items
    spread = smoothing / num_items
    floor = 0.0
    for counter in groups.values():
        size = sum(counter.values())
        shares = [(1 - smoothing) * n / size + spread for n in counter.values()]
        shares += [spread] * (num_items - len(counter)) if spread > 0 else []
        floor -= size / total * sum(share * math.log(share) for share in shares)
    return floor


def prefixes(probe: Probe, batch: Batch) -> dict[tuple, Counter]:
    """Return the targets after each distinct past within the windows."""
    reads_history = probe.subject.declared.reads_history
    groups: dict[tuple, Counter] = defaultdict(Counter)
    for row in range(len(batch.item_ids)):
        items = batch.item_ids[row].tolist()
        real, targets = batch.mask[row].tolist(), batch.targets[row].tolist()
        past: tuple = ()
        for position, target in enumerate(targets):
            if real[position]:
                past = (*past, items[position]) if reads_history else (items[position],)
            if target > 0:
                groups[past][target] += 1
    return groups


def first_places(probe: Probe, batch: Batch) -> int:
    """Return how many targets of a batch any model can put first: one per prefix and count."""
    return sum(max(counter.values()) for counter in prefixes(probe, batch).values())
