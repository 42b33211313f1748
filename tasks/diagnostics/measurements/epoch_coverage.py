"""What an epoch leaves out, what it holds twice, and whether the next one makes up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tasks.data.prepared import PackedSequences
from tasks.diagnostics.finding import Limit
from tasks.diagnostics.measurements import window_match
from tasks.diagnostics.probe import MAX_BATCHES, Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

EPOCHS = 3
"""Epochs read; rows that a shuffled loader drops by chance are others each time."""

WHOLE = 0.75
"""Share of a long sequence's pairs from which its windows are taken to be meant to hold all."""


@dataclass(frozen=True)
class EpochCoverage:
    """Pairs of an epoch beside those of the training sequences."""

    covered_share: float = quantity("share of the pairs an epoch should hold")
    repeated_share: float = quantity("share of the pairs held that are of sequences held twice")
    batch_dropped: bool = quantity("dropping a last, incomplete batch explains what is left out")
    batch_filled: bool = quantity("filling up a last batch explains what is held twice")
    never_seen: int | None = quantity("sequences that none of three epochs holds")
    by_chance: int = quantity("sequences that a last batch dropped by chance can leave out")
    repeated_seeds: int | None = quantity("batches of two epochs with the seed of another one")


def one_batch(limit: Limit, num_batches: int, explained: bool) -> Limit:
    """Return `limit`, or the share of one batch where one batch explains a breach.

    Args:
        limit: Share of an epoch's pairs.
        num_batches: Of the epoch.
        explained: Whether it does.

    >>> one_batch(Limit(0.02, "a last batch"), 5, True).value
    0.2
    """
    if not explained or num_batches < 2:
        return limit
    return Limit(max(limit.value, 1.0 / num_batches), limit.source)


def measure(probe: Probe) -> EpochCoverage:
    """Count pairs per sequence in one epoch, users over three, seeds over two."""
    batches = probe.all_batches
    if len(batches) >= MAX_BATCHES:
        raise NotMeasuredError(f"an epoch of fewer than {MAX_BATCHES} batches")
    train = probe.data.train
    told = all(batch.users is not None for batch in batches)
    seen, twice = _held(train, probe.evidence(window_match.measure).pairs)
    twice &= told
    expected = _expected(probe, np.maximum(np.asarray(train.lengths) - 1, 0), seen, told)
    rows = [len(batch.item_ids) for batch in batches]
    room = rows[0] - 1 if len(set(rows)) == 1 and len(rows) > 1 else 0
    epochs = [batches, *(_epoch(probe, number) for number in range(1, EPOCHS))]
    held = np.minimum(seen, expected)
    total = int(expected.sum())
    return EpochCoverage(
        covered_share=float(held.sum() / total) if total else 1.0,
        repeated_share=float(seen[twice].sum() / max(seen.sum(), 1)),
        batch_dropped=0 < int((held < expected).sum()) <= room,
        batch_filled=0 < int(twice.sum()) <= room,
        never_seen=_never_seen(epochs, expected),
        by_chance=_by_chance(int((expected > 0).sum()), room),
        repeated_seeds=_repeated_seeds(epochs[:2]),
    )


def _held(train: PackedSequences, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return per sequence the pairs held, int64 (U,), and whether all of those were held twice.

    Pairs of a sequence are told apart by input and target, not by place: a short window may stand
    in several places. Windows that overlap hold some pairs of a sequence twice; all of them, only
    a second drawing of the sequence.
    """
    items = np.asarray(train.items, dtype=np.int64)
    owner = np.repeat(np.arange(len(train)), train.lengths)
    inner = np.flatnonzero(owner[1:] == owner[:-1])
    width = int(items.max(initial=0)) + 1
    code = items[:-1] * width + items[1:]
    keys, key = np.unique(np.stack([owner[inner], code[inner]]), axis=1, return_inverse=True)
    of_place = np.full(len(items), -1)
    of_place[inner] = key.ravel()
    there = np.bincount(key.ravel(), minlength=keys.shape[1])
    found = np.bincount(of_place[places], minlength=keys.shape[1])
    seen = np.bincount(keys[0], np.minimum(found, there), minlength=len(train)).astype(np.int64)
    once = np.zeros(len(train), dtype=bool)
    once[keys[0][(found > 0) & (found < 2 * there)]] = True
    return seen, (seen > 0) & ~once


def _expected(probe: Probe, pairs: np.ndarray, seen: np.ndarray, told: bool) -> np.ndarray:
    """Pairs of each sequence that an epoch should hold.

    All of them or, where programs keep the most recent events only, as many as `max_seq_len`
    allows. Which of the two a program means, its long sequences show: one window holds no more.
    Where rows don't tell whose they are, the fewer.
    """
    limit = probe.subject.declared.max_seq_len
    long = pairs > limit
    if told and (seen > limit).any() and float(np.median(seen[long] / pairs[long])) >= WHOLE:
        return pairs
    return np.minimum(pairs, limit)


def _epoch(probe: Probe, number: int) -> tuple[Batch, ...]:
    batches = probe.ask("make_batches", probe.prepared, probe.seed, number)
    try:
        return tuple(islice(batches, MAX_BATCHES))
    except Exception as error:
        raise SubjectError.of("make_batches", error) from error


def _never_seen(epochs: list[tuple[Batch, ...]], expected: np.ndarray) -> int | None:
    if any(batch.users is None for batches in epochs for batch in batches):
        return None
    users = [np.asarray(batch.users.cpu()) for batches in epochs for batch in batches]
    wanted = np.flatnonzero(expected > 0)
    return int((~np.isin(wanted, np.concatenate(users))).sum())


def _by_chance(num_sequences: int, dropped: int) -> int:
    """Sequences among those dropped in each epoch alike: the mean and five standard deviations.

    >>> _by_chance(160, 0), _by_chance(10_000, 63), _by_chance(160, 31)
    (0, 0, 7)
    """
    mean = num_sequences * (dropped / max(num_sequences, 1)) ** EPOCHS
    return math.ceil(mean + 5 * math.sqrt(mean)) if mean >= 0.01 else 0


def _repeated_seeds(epochs: list[tuple[Batch, ...]]) -> int | None:
    """Batches whose own seed another one has too; None where batches bring no seeds."""
    seeds = [batch.seed for batches in epochs for batch in batches]
    if not any(seeds):
        return None
    return len(seeds) - len(set(seeds))
