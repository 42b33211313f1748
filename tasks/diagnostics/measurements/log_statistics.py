"""What the prepared data are like: catalogue, popularity, lengths, cold targets, drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.measurements.trends import (
    FEWEST,
    compare_samples,
    group_by_mass,
)
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

GROUPS = 10
"""Groups of items of equal training mass: enough to see a shift, few enough for 300 users."""


@dataclass(frozen=True)
class LogStatistics:
    """Numbers of the training events and of the test targets."""

    num_users: int = quantity("training sequences with an event")
    num_items: int = quantity("items in the vocabulary")
    num_events: int = quantity("training events")
    effective_items: float = quantity("items, exp of the entropy of popularity")
    gini: float = quantity("Gini coefficient of popularity")
    head_share: float = quantity("share of training events on the most popular percent of items")
    top_item_share: float = quantity("share of test targets that are the most frequent target")
    top_k_share: float = quantity("share of test targets among the K most popular items")
    cutoff: int = quantity("K, the main cut-off of the metrics")
    cold_share: float = quantity("share of test targets without a training event")
    duplicate_share: float = quantity("share of training events equal to the one before")
    median_length: float = quantity("median events of a training sequence")
    longest: int = quantity("events of the longest training sequence")
    drift: float = quantity("total variation between popularity of late training and test events")
    p_of_drift: float = quantity("chance of such a drift if there were none, chi-square")
    num_targets: int = quantity("test targets")


def measure(probe: Probe) -> LogStatistics:
    """Count; compare test targets with every user's last training event."""
    data = probe.data
    items = np.asarray(data.train.items, dtype=np.int64)
    lengths = np.asarray(data.train.lengths)
    targets = np.asarray(data.test.targets)
    if len(items) == 0 or len(targets) < FEWEST:
        raise NotMeasuredError(f"training events and {FEWEST} test targets; got {len(targets)}")
    known = items[(items >= 1) & (items <= data.num_items)]
    counts = np.bincount(known, minlength=data.num_items + 1)[1:].astype(float)
    warm = targets[(targets >= 1) & (targets <= data.num_items)]
    share = counts / max(counts.sum(), 1.0)
    order = np.argsort(-counts, kind="stable")
    cutoffs = probe.subject.declared.cutoffs
    cutoff = 10 if 10 in cutoffs else min(cutoffs, default=10)
    is_top = np.zeros(data.num_items + 1, dtype=bool)
    is_top[order[:cutoff] + 1] = True
    drift, p_of_drift = _drift(probe, counts, warm)
    positive = share[share > 0]
    times, users = np.asarray(data.train.times), np.repeat(np.arange(len(lengths)), lengths)
    repeated = (users[1:] == users[:-1]) & (items[1:] == items[:-1]) & (times[1:] == times[:-1])
    head = max(1, round(0.01 * data.num_items))
    return LogStatistics(
        num_users=int((lengths > 0).sum()),
        num_items=data.num_items,
        num_events=len(items),
        effective_items=float(np.exp(-(positive * np.log(positive)).sum())),
        gini=_gini(counts),
        head_share=float(share[order[:head]].sum()),
        top_item_share=float(np.bincount(warm).max() / len(targets)) if len(warm) else 0.0,
        top_k_share=float(is_top[warm].sum() / len(targets)),
        cutoff=cutoff,
        cold_share=1.0 - float((counts[warm - 1] > 0).sum()) / len(targets),
        duplicate_share=float(repeated.sum()) / len(items),
        median_length=float(np.median(lengths[lengths > 0])),
        longest=int(lengths.max()),
        drift=drift,
        p_of_drift=p_of_drift,
        num_targets=len(targets),
    )


def _drift(probe: Probe, counts: np.ndarray, warm: np.ndarray) -> tuple[float, float]:
    """Compare popularity groups of test targets with those of users' last training events."""
    train = probe.data.train
    ends = np.asarray(train.offsets)[1:][np.asarray(train.lengths) > 0] - 1
    last = np.asarray(train.items, dtype=np.int64)[ends]
    last = last[(last >= 1) & (last <= len(counts))]
    if len(last) < FEWEST or len(warm) < FEWEST:
        return 0.0, 1.0
    group = group_by_mass(counts, GROUPS)
    width = int(group.max()) + 1
    before = np.bincount(group[last - 1], minlength=width)
    after = np.bincount(group[warm - 1], minlength=width)
    return compare_samples(before, after)


def _gini(counts: np.ndarray) -> float:
    """Return 0 for equal counts, towards 1 where one item has them all.

    >>> _gini(np.array([1.0, 1.0])), round(_gini(np.array([0.0, 0.0, 0.0, 1.0])), 2)
    (0.0, 0.75)
    """
    ordered = np.sort(counts)
    total = ordered.sum()
    if total == 0:
        return 0.0
    place = np.arange(1, len(ordered) + 1)
    return float((2 * place - len(ordered) - 1) @ ordered / (len(ordered) * total))
