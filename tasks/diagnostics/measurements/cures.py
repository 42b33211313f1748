"""A training without skill, made again: longer, in other batches, at other rates. What cures?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from tasks.diagnostics.measurements import simple_models, skill
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.model_ranks import model_ranks
from tasks.diagnostics.measurements.overfit import steps_in_budget
from tasks.diagnostics.measurements.skill import REACHED, compare
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

CURED = 0.5
"""Share of the gain of transition counts: twice what a training without skill stays below."""

LONGER = 4
SPLIT = 8
MOST_STEPS = 2000
LOOKS = 4
RATES = (10.0, 0.1, 100.0, 0.01, 1000.0)
SEEDS = 2

UNCERTAIN = 1e-3
"""p-value of the lack of skill above which there is no symptom to cure."""


@dataclass(frozen=True)
class Cures:
    """Share of the gain of transition counts over popularity that a training reaches.

    Tried in this order until one cures, each with as many passes over the data as declared unless
    said otherwise; None was not tried. The worse of two seeds. Nothing further is tried where more
    of the same already helps: on a short horizon large rates and small batches look good in any
    program.
    """

    symptom: bool = quantity("the finished training has no skill though there is order to learn")
    trained: float = quantity("share by the finished training")
    again: float | None = quantity("share by the program's steps alone, at a constant rate")
    longer: float | None = quantity("share by four times as many steps")
    smaller_batches: float | None = quantity("share by batches an eighth as large")
    larger_batches: float | None = quantity("share by eight batches to a step")
    other_rate: float | None = quantity("share at the best other learning rate")
    best_rate: float | None = quantity("multiple of the learning rate that did best")
    steps: int = quantity("optimiser steps of the declared training, those tried at most")

    def cured_by(self, name: str) -> bool:
        """Whether this change cures."""
        value = getattr(self, name)
        return value is not None and value >= CURED


def measure(probe: Probe) -> Cures:
    """Look for a cure only where there is something to cure."""
    probe.require("deep")
    found = probe.evidence(skill.measure)
    if not found.learnable:
        raise NotApplicableError(
            "transition counts rank no better than popularity: there is no skill to miss"
        )
    steps = min(steps_in_budget(probe), MOST_STEPS)
    symptom = found.share < REACHED and found.p_below <= UNCERTAIN
    if not symptom:
        return Cures(False, found.share, None, None, None, None, None, None, steps)
    shares: dict[str, float] = {}
    best_rate = None
    for name, arm in _arms(steps):
        value = min(_share(probe, seed, arm) for seed in range(probe.seed, probe.seed + SEEDS))
        if name == "other_rate":
            best_rate = arm.rate if value > shares.get(name, -math.inf) else best_rate
            value = max(value, shares.get(name, -math.inf))
        shares[name] = value
        # More of the same helps: whatever else does so on this short a horizon is no cause.
        if value >= CURED or (name == "longer" and value >= REACHED):
            break
    names = ("again", "longer", "smaller_batches", "larger_batches", "other_rate")
    return Cures(
        True, found.share, *(shares.get(name) for name in names), best_rate=best_rate, steps=steps
    )


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    steps: int
    rate: float = 1.0
    pieces: int = 1
    together: int = 1


def _arms(steps: int) -> Iterator[tuple[str, Arm]]:
    yield "again", Arm(steps)
    yield "longer", Arm(LONGER * steps)
    yield "smaller_batches", Arm(min(SPLIT * steps, LONGER * MOST_STEPS), pieces=SPLIT)
    yield "larger_batches", Arm(max(1, steps // SPLIT), together=SPLIT)
    for rate in RATES:
        yield "other_rate", Arm(steps, rate=rate)


def _share(probe: Probe, seed: int, arm: Arm) -> float:
    """Train, and return the best share of the gain of transition counts seen on the way."""
    simple = probe.evidence(simple_models.measure)
    model = probe.model(seed=seed)
    best = -math.inf

    def look() -> bool:
        nonlocal best
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            return True
        ranks = model_ranks(probe, model, probe.data.test, simple.index)
        best = max(best, compare(gains(ranks), simple).share)
        return best >= CURED

    run(probe, model, arm, seed, look)
    return best if math.isfinite(best) else -1.0


def run(
    probe: Probe,
    model: nn.Module,
    arm: Arm,
    seed: int,
    look: Callable[[], bool] = lambda: False,
    *,
    every: int | None = None,
) -> None:
    """Train a model of the caller's own by the program's steps, at a constant learning rate.

    Args:
        probe: Of the program.
        model: Trained in place; in eval mode at the end and at every look.
        arm: How.
        seed: Of batches and noise.
        look: Called `LOOKS` times on the way; True ends the training.
        every: Steps between two looks instead.
    """
    optimizer = probe.ask("make_optimizer", model)
    for group in optimizer.param_groups:
        group["lr"] *= arm.rate
    every = every or max(1, arm.steps // LOOKS)
    for number, batch in enumerate(_batches(probe, arm, seed), start=1):
        torch.manual_seed(seed * MOST_STEPS + number)
        probe.ask("train_step", probe.subject.loss, model, optimizer, batch)
        if number % every == 0 or number == arm.steps:
            model.eval()
            if look() or number == arm.steps:
                break
    model.eval()


def _batches(probe: Probe, arm: Arm, seed: int) -> Iterator[Batch]:
    """Yield the program's batches, epoch by epoch, cut into pieces or put together."""
    for epoch in count():
        kept: list[Batch] = []
        empty = True
        for batch in _epoch(probe, seed, epoch):
            if batch.num_targets == 0:
                continue
            empty = False
            if arm.pieces > 1:
                size = max(1, -(-len(batch.item_ids) // arm.pieces))
                for start in range(0, len(batch.item_ids), size):
                    piece = batch.rows(slice(start, start + size))
                    if piece.num_targets:
                        yield piece._replace(seed=batch.seed + start)
                continue
            kept.append(batch)
            if len(kept) == arm.together:
                yield joined(kept)
                kept = []
        if kept:
            yield joined(kept)
        if empty:
            return


def _epoch(probe: Probe, seed: int, epoch: int) -> Iterator[Batch]:
    batches = iter(probe.ask("make_batches", probe.prepared, seed, epoch))
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise SubjectError.of("make_batches", error) from error
        yield batch


def joined(batches: list[Batch]) -> Batch:
    """Return one batch with the rows of several, padded on the right to the longest.

    Windows padded on the left get their further padding on the left.

    >>> one = Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]), torch.tensor([[True, True]]))
    >>> two = Batch(torch.tensor([[4]]), torch.tensor([[5]]), torch.tensor([[True]]))
    >>> joined([one, two]).item_ids.tolist()
    [[1, 2], [4, 0]]
    """
    if len(batches) == 1:
        return batches[0]
    width = max(batch.item_ids.shape[1] for batch in batches)
    left = any(bool((~b.mask[:, :1] & b.mask[:, -1:]).any()) for b in batches)

    def wide(name: str) -> torch.Tensor | None:
        parts = []
        for batch in batches:
            value = getattr(batch, name)
            if value is None:
                return None
            room = width - value.shape[1]
            parts.append(nn.functional.pad(value, (room, 0) if left else (0, room)))
        return torch.cat(parts)

    users = None
    if all(batch.users is not None for batch in batches):
        users = torch.cat([batch.users for batch in batches])
    item_ids, targets, mask = wide("item_ids"), wide("targets"), wide("mask")
    return Batch(item_ids, targets, mask, wide("times"), users, batches[0].seed)
