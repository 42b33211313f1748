"""Drawn negatives beside their declared distribution, the users' own items, and each other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from tasks.diagnostics.finding import FAMILY_LEVEL
from tasks.diagnostics.measurements import loss_oracle
from tasks.diagnostics.measurements.loss_forms import FULL_LOSSES
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch, Draws

ENOUGH = 20_000
"""Draws that tell a total variation of 0.05 over 20 groups from none."""

GROUP_DRAWS = 50
"""Draws after which a group of items that has none is no matter of chance: e^-50."""

MAX_EPOCHS = 50
GROUPS = 20


@dataclass(frozen=True)
class Negatives:
    """What was drawn over some epochs."""

    num_draws: int = quantity("draws")
    p_value: float = quantity("chance of such a deviation from the declared distribution")
    total_variation: float = quantity("total variation from the declared distribution, grouped")
    outside: int = quantity("draws that are no item, or one that is never to be drawn")
    wrong_count: int = quantity("batches with another number of negatives than declared")
    unmarked_positives: int | None = quantity("draws that are the user's own item, not left out")
    log_q_error: float = quantity("largest error of the stated log-probability")
    never_drawn: int = quantity("groups of items never drawn where 50 draws were to be expected")
    follows_targets: float = quantity("share of draws that are the item all targets were set to")
    expected_share: float = quantity("declared probability of that item")
    repeated_epochs: float = quantity("share of batches with the same draws as in the epoch before")
    repeated_batches: float = quantity("share of batches with the same draws as the batch before")


def measure(probe: Probe) -> Negatives:
    """Draw for the batches of several epochs and count."""
    subject = probe.subject
    _prove_needed(probe)
    if subject.sample_negatives is None:
        raise NotOfferedError("sample_negatives")
    expected = declared_distribution(probe)
    counts = np.zeros(probe.data.num_items + 1)
    tally = {"outside": 0, "wrong": 0, "unmarked": 0, "epochs": 0, "pairs": 0, "batches": 0}
    error, total, marks = 0.0, 0, False
    before: list[np.ndarray] = []
    for epoch in range(MAX_EPOCHS):
        drawn = _epoch(probe, epoch)
        items = [np.asarray(draws.item_ids) for _, draws in drawn]
        tally["epochs"] += sum(np.array_equal(a, b) for a, b in zip(before, items, strict=False))
        tally["pairs"] += min(len(before), len(items))
        tally["batches"] += sum(np.array_equal(a, b) for a, b in itertools.pairwise(items))
        for batch, draws in drawn:
            ids = np.asarray(draws.item_ids)
            inside = (ids >= 1) & (ids <= probe.data.num_items)
            tally["outside"] += int((~inside | (expected[np.where(inside, ids, 0)] == 0)).sum())
            tally["wrong"] += int(ids.shape[-1] != subject.declared.num_negatives)
            counts += np.bincount(ids[inside], minlength=len(counts))
            error = max(error, _log_q_error(draws, expected, inside))
            if subject.declared.collisions == "exclude_positives":
                marks = True
                tally["unmarked"] += _unmarked(probe, batch, draws)
            total += ids.size
        before = items
        if total >= ENOUGH and epoch >= 1:
            break
    if total < 1000:
        raise NotMeasuredError(f"1000 draws of negatives; there were {total}")
    chance, distance = _repeated(probe, deviation(counts[1:], expected[1:]), epoch + 1, expected)
    follows, share = _follows_targets(probe, expected)
    neighbours = max(1, len(before) - 1) * (epoch + 1)
    return Negatives(
        num_draws=total,
        p_value=chance,
        total_variation=distance,
        outside=tally["outside"],
        wrong_count=tally["wrong"],
        unmarked_positives=tally["unmarked"] if marks else None,
        log_q_error=error,
        never_drawn=never_drawn(counts[1:], expected[1:]),
        follows_targets=follows,
        expected_share=share,
        repeated_epochs=tally["epochs"] / max(tally["pairs"], 1),
        repeated_batches=tally["batches"] / neighbours if len(before) > 1 else 0.0,
    )


def _prove_needed(probe: Probe) -> None:
    """End where the loss draws no negatives, with the measured proof."""
    if probe.subject.declared.loss not in FULL_LOSSES:
        return
    oracle = probe.evidence(loss_oracle.measure)
    if oracle.relative_difference < 1e-3:
        raise NotApplicableError(
            "the loss equals the cross-entropy over the whole catalogue to "
            f"{oracle.relative_difference:.1g}, so no negatives are drawn"
        )
    raise NotMeasuredError("a loss that is what is declared; see question loss_fits_task")


def declared_distribution(probe: Probe) -> np.ndarray:
    """Return the declared probability of every id, (num_items + 1,), from training counts."""
    declared = probe.subject.declared
    weights = np.ones(probe.data.num_items + 1)
    if declared.negatives == "popularity":
        counts = np.bincount(probe.data.train.items, minlength=len(weights)).astype(float)
        weights = np.where(counts > 0, counts**declared.popularity_exponent, 0.0)
    weights[0] = 0.0
    return weights / weights.sum()


def deviation(counts: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Return the chi-square p-value and the total variation over groups of equal expectation.

    Groups are made twice, by declared probability and by id, and the larger distance counts: items
    one by one are too many to estimate a distance from.

    >>> p, distance = deviation(np.array([500, 500]), np.array([0.5, 0.5]))
    >>> round(p, 3), distance
    (1.0, 0.0)
    """
    total = counts.sum()
    order = np.argsort(-expected, kind="stable")
    distances, chances = [], []
    for arrangement in (order, np.arange(len(counts))):
        cumulative = np.cumsum(expected[arrangement])
        group = np.minimum((cumulative * GROUPS - 1e-9).astype(int), GROUPS - 1)
        seen = np.bincount(group, counts[arrangement], minlength=GROUPS)
        wanted = np.bincount(group, expected[arrangement], minlength=GROUPS) * total
        used = wanted > 0
        distances.append(float(np.abs(seen - wanted).sum() / (2 * total)))
        statistic = ((seen[used] - wanted[used]) ** 2 / wanted[used]).sum()
        degrees = max(int(used.sum()) - 1, 1)
        chances.append(float(stats.chi2.sf(statistic, degrees)))
    # Two looks at the same draws: Bonferroni.
    return min(1.0, 2 * min(chances)), max(distances)


def never_drawn(counts: np.ndarray, expected: np.ndarray) -> int:
    """Count groups of items without a single draw among those that should have 50 or more.

    Chance leaves one out with probability e^-50. Groups are made by declared probability, and by
    id: the larger count is returned.

    >>> never_drawn(np.array([200, 0]), np.array([0.5, 0.5]))
    1
    """
    total, found = counts.sum(), []
    for order in (np.argsort(-expected, kind="stable"), np.arange(len(counts))):
        wanted = np.cumsum(expected[order]) * total
        group = (wanted / GROUP_DRAWS).astype(int)
        seen = np.bincount(group, counts[order])
        due = np.bincount(group, expected[order]) * total
        found.append(int(((due >= GROUP_DRAWS) & (seen == 0)).sum()))
    return max(found)


def _follows_targets(probe: Probe, expected: np.ndarray) -> tuple[float, float]:
    """Draw for batches that hold and ask for nothing but one rare item; return its share, and q.

    Declared distributions are the same for every batch, whatever it holds; negatives that are
    taken from the batch are all that item then.
    """
    rare = int(np.where(expected > 0, expected, np.inf).argmin())
    hits = total = 0
    for batch in probe.all_batches[:20]:
        alike = batch._replace(
            item_ids=torch.where(batch.mask, rare, 0), targets=torch.where(batch.asked, rare, 0)
        )
        ids = np.asarray(probe.ask("sample_negatives", probe.prepared, alike).item_ids)
        hits, total = hits + int((ids == rare).sum()), total + ids.size
    return hits / max(total, 1), float(expected[rare])


def _repeated(
    probe: Probe, first: tuple[float, float], epochs: int, expected: np.ndarray
) -> tuple[float, float]:
    """Return the milder of the deviation and, where it is one, that of draws with another seed."""
    if first[0] > FAMILY_LEVEL:
        return first
    counts = np.zeros(len(expected))
    for epoch in range(epochs):
        for _, draws in _epoch(probe, epoch, seed=probe.seed + 1):
            ids = np.asarray(draws.item_ids)
            counts += np.bincount(ids[(ids >= 1) & (ids < len(counts))], minlength=len(counts))
    second = deviation(counts[1:], expected[1:])
    return max(first[0], second[0]), min(first[1], second[1])


def _epoch(probe: Probe, epoch: int, seed: int | None = None) -> list[tuple[Batch, Draws]]:
    chosen = probe.seed if seed is None else seed
    batches = probe.ask("make_batches", probe.prepared, chosen, epoch)
    found = []
    for number, batch in enumerate(batches):
        if number >= 20:
            break
        found.append((batch, probe.ask("sample_negatives", probe.prepared, batch)))
    return found


def _log_q_error(draws: Draws, expected: np.ndarray, inside: np.ndarray) -> float:
    ids, log_q = np.asarray(draws.item_ids), np.asarray(draws.log_q, dtype=float)
    if log_q.shape != ids.shape or not inside.any():
        return 0.0
    with np.errstate(divide="ignore"):
        wanted = np.log(expected[np.where(inside, ids, 0)])
    known = inside & np.isfinite(wanted)
    return float(np.abs(log_q - wanted)[known].max()) if known.any() else 0.0


def _unmarked(probe: Probe, batch: Batch, draws: Draws) -> int:
    """Draws that are among the user's own training items and not marked as such."""
    if batch.users is None:
        return 0
    train, missing = probe.data.train, 0
    ids = np.asarray(draws.item_ids)
    marked = None if draws.is_positive is None else np.asarray(draws.is_positive)
    for row, user in enumerate(np.asarray(batch.users)):
        own = np.isin(ids[row if len(ids) > 1 else 0], train.sequence(int(user)))
        missing += int((own & ~marked[row]).sum() if marked is not None else own.sum())
    return missing
