"""Does a model rank held-out items although its training targets were exchanged at random?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from tasks.diagnostics.measurements import simple_models
from tasks.diagnostics.measurements.cures import MOST_STEPS
from tasks.diagnostics.measurements.overfit import steps_in_budget
from tasks.diagnostics.measurements.reference_model import gains_on_test, train_selected
from tasks.diagnostics.measurements.trends import chance_of_no_gain
from tasks.diagnostics.probe import MAX_BATCHES, Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch, PreparedLog, Subject

SUSPICIOUS = 0.25
"""Share of counting's gain that no training on random targets should come near."""

SEEDS = 2
FEWEST = 20
"""Test targets below which gains are not compared."""


@dataclass(frozen=True)
class RandomLabels:
    """What is ranked better than by popularity and by the untrained model; the worse of two seeds.

    Nothing links histories and targets in such a training, so that skill has to come from
    somewhere else. Tables that are tied rank high what the history holds, untrained or not: targets
    their users had before are left out.
    """

    share: float = quantity("gain per gain of transition counts")
    p_of_gain: float = quantity("chance of such a gain if there were none")
    trainings: int = quantity("trainings")


def measure(probe: Probe) -> RandomLabels:
    """Train on targets exchanged over the whole training set; a second time where that has skill.

    Raises:
        NotApplicableError: There is no order to learn, so nothing to compare with.
        NotMeasuredError: Not in the deep mode, or the loss reads no targets of the batch.
    """
    probe.require("deep")
    simple = probe.evidence(simple_models.measure)
    if not simple.learnable:
        raise NotApplicableError(
            "transition counts rank no better than popularity: there is no skill to come by"
        )
    _require_targets(probe)
    steps = min(steps_in_budget(probe), MOST_STEPS)
    inner = Probe(with_random_targets(probe.subject), "deep", seed=probe.seed)
    scale = simple.transitions - simple.popularity
    new = _new_to_their_users(probe, simple.index)
    index, popular = simple.index[new], simple.popularity_gains[new]
    if len(index) < FEWEST:
        raise NotMeasuredError(f"{FEWEST} test targets new to their users; there are {len(index)}")
    found: list[tuple[float, float]] = []
    for seed in range(probe.seed, probe.seed + SEEDS):
        untrained = gains_on_test(probe, probe.model(seed=seed), index)
        known = max((popular, untrained), key=lambda gain: float(gain.mean()))
        own = gains_on_test(inner, train_selected(inner, steps, seed), index)
        found.append((float((own - known).mean()) / scale, chance_of_no_gain(own, known)))
        if found[-1][0] <= SUSPICIOUS:
            break
    share, p_of_gain = min(found)
    return RandomLabels(share, p_of_gain, len(found))


def _new_to_their_users(probe: Probe, index: np.ndarray) -> np.ndarray:
    """Return which test targets their history does not hold, bool (E,)."""
    targets = np.asarray(probe.data.test.targets)[index]
    rows, seen = probe.data.seen_items(probe.data.test, index)
    held = np.zeros(len(index), dtype=bool)
    held[rows[seen == targets[rows]]] = True
    return ~held


def _require_targets(probe: Probe) -> None:
    batch = probe.batch()
    model = probe.model()
    generator = torch.Generator().manual_seed(probe.seed)
    (changed,) = exchanged([batch], generator)
    with torch.no_grad():
        torch.manual_seed(probe.seed)
        before = float(probe.ask("loss", model, batch))
        torch.manual_seed(probe.seed)
        after = float(probe.ask("loss", model, changed))
    if before == after:
        raise NotMeasuredError("a loss that reads the targets of its batch")


def with_random_targets(subject: Subject) -> Subject:
    """Return the program with the targets of every epoch exchanged among all its positions."""
    original = subject.make_batches
    assert original is not None

    def make_batches(prepared: PreparedLog, seed: int, epoch: int = 0, **more: Any) -> Iterator:
        batches = list(islice(original(prepared, seed, epoch, **more), MAX_BATCHES))
        generator = torch.Generator().manual_seed(1_000 * seed + epoch)
        yield from exchanged(batches, generator)

    return subject.replace(make_batches=make_batches)


def exchanged(batches: list[Batch], generator: torch.Generator) -> list[Batch]:
    """Exchange the targets of several batches at random among all positions that have one.

    >>> one = Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]), torch.tensor([[True, True]]))
    >>> two = Batch(torch.tensor([[4, 0]]), torch.tensor([[5, 0]]), torch.tensor([[True, False]]))
    >>> changed = exchanged([one, two], torch.Generator().manual_seed(0))
    >>> sorted(torch.cat([batch.targets[batch.asked] for batch in changed]).tolist())
    [2, 3, 5]
    """
    if not batches:
        return []
    all_targets = torch.cat([batch.targets[batch.asked] for batch in batches])
    drawn = all_targets[torch.randperm(len(all_targets), generator=generator)]
    parts = np.cumsum([0, *(int(batch.asked.sum()) for batch in batches)])
    changed = []
    for batch, start, end in zip(batches, parts[:-1], parts[1:], strict=True):
        targets = batch.targets.clone()
        targets[batch.asked] = drawn[start:end]
        changed.append(batch._replace(targets=targets))
    return changed
