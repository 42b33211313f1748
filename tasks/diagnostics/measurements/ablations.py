"""What is lost when histories are spoiled: other items, other order, other times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.diagnostics.measurements import count_models, simple_models
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.model_ranks import Change, histories, model_ranks
from tasks.diagnostics.measurements.trends import chance_of_mean_below, chance_of_no_gain
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity

USED = 0.2
"""Share of what counting loses by the same change; less is no use of it worth the name."""

SEEDS = 3
"""Draws of every change, so that no verdict hangs on one of them; the middle one counts."""

CERTAIN = 1e-4
WORTH = 0.05
"""Share of its NDCG that counting must lose before the change counts as one that matters."""


@dataclass(frozen=True)
class Ablation:
    """One change of the histories, for the trained model and for transition counts alike."""

    loss: float = quantity("NDCG the model loses")
    by_counting: float = quantity("NDCG transition counts lose")
    p_unused: float = quantity("chance of so small a loss if it were a fifth of counting's")
    matters: bool = quantity("counting loses clearly by the change")

    @property
    def share(self) -> float:
        """Loss of the model per loss of counting."""
        return self.loss / self.by_counting if self.by_counting > 0 else 1.0


@dataclass(frozen=True)
class Ablations:
    """All changes."""

    items: Ablation
    order: Ablation
    times: float | None = quantity("NDCG lost by other time gaps, in standard errors")
    num_examples: int = quantity("test users")


def measure(probe: Probe) -> Ablations:
    """Rank the same test targets from changed histories, by the trained model and by counting."""
    simple = probe.evidence(simple_models.measure)
    model = probe.model(trained=True)
    data, index = probe.data, simple.index
    usual = gains(model_ranks(probe, model, data.test, index))
    counts = count_models.count(data.train.items, data.train.offsets, data.num_items)
    targets = np.asarray(data.test.targets)[index]

    def ablate(change: Change) -> Ablation:
        lost = usual - gains(model_ranks(probe, model, data.test, index, change))
        last = _last_items(probe, index, change)
        spoiled = gains(count_models.transition_ranks(counts, last, targets))
        before = simple.transition_gains
        lost_by_counting = before - spoiled
        certain = chance_of_no_gain(before, spoiled) <= CERTAIN
        clear = float(lost_by_counting.mean()) >= WORTH * float(before.mean())
        return Ablation(
            loss=float(lost.mean()),
            by_counting=float(lost_by_counting.mean()),
            p_unused=chance_of_mean_below(lost - USED * lost_by_counting),
            matters=certain and clear,
        )

    times = None
    if probe.subject.declared.uses_times:
        lost = usual - gains(model_ranks(probe, model, data.test, index, other_gaps(probe.seed)))
        error = float(lost.std(ddof=1)) / len(lost) ** 0.5
        # Ranks that do not move at all: gaps that are all alike.
        times = float(lost.mean()) / error if error > 0 else None
    seeds = range(probe.seed, probe.seed + SEEDS)
    return Ablations(
        items=_middle([ablate(renamed(data.num_items, seed)) for seed in seeds]),
        order=_middle([ablate(shuffled(seed)) for seed in seeds]),
        times=times,
        num_examples=len(index),
    )


def _middle(found: list[Ablation]) -> Ablation:
    """Return the one of several draws whose chance is the middle one."""
    return sorted(found, key=lambda one: one.p_unused)[len(found) // 2]


def _last_items(probe: Probe, index: np.ndarray, change: Change) -> np.ndarray:
    """Return the last item of every changed history; 0 where there is none."""
    found = []
    for start in range(0, len(index), 256):
        part = index[start : start + 256]
        item_ids, lengths, times = histories(probe, probe.data.test, part)
        item_ids, _ = change(item_ids, lengths, times)
        places = torch.where(item_ids > 0, torch.arange(item_ids.shape[1]), -1).amax(dim=1)
        last = item_ids.gather(1, places.clamp(min=0)[:, None])[:, 0]
        found.append(torch.where(places >= 0, last, 0).numpy())
    return np.concatenate(found)


def renamed(num_items: int, seed: int) -> Change:
    """Every item becomes another one, always the same: identities are lost, patterns are kept."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_items, generator=generator) + 1
    # Along one cycle nothing maps to itself.
    other = torch.zeros(num_items + 1, dtype=torch.int64)
    other[order] = order.roll(1)

    def change(item_ids: Tensor, lengths: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        return other[item_ids], times

    return change


def shuffled(seed: int) -> Change:
    """The events of every history stand in random order; times stay in place."""

    def change(item_ids: Tensor, lengths: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed + len(item_ids))
        return _within(item_ids, item_ids > 0, generator), times

    return change


def other_gaps(seed: int) -> Change:
    """The gaps between the times of every history stand in random order; items stay."""

    def change(item_ids: Tensor, lengths: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed + len(item_ids))
        real = item_ids > 0
        both = real[:, 1:] & real[:, :-1]
        gaps = torch.where(both, times[:, 1:] - times[:, :-1], 0)
        moved = _within(gaps, both, generator)
        added = torch.cat([torch.zeros_like(times[:, :1]), moved.cumsum(dim=1)], dim=1)
        first = torch.where(real, times, torch.iinfo(times.dtype).max).amin(dim=1, keepdim=True)
        return item_ids, torch.where(real, first + added, times)

    return change


def _within(values: Tensor, real: Tensor, generator: torch.Generator) -> Tensor:
    """Shuffle the real entries of every row among their places."""
    keys = torch.rand(values.shape, generator=generator)
    # Sorting (is padding, key) and (is padding, place) pairs the k-th drawn with the k-th place.
    drawn = torch.where(real, keys, 2.0).argsort(dim=1, stable=True)
    places = torch.where(real, 0, 1).argsort(dim=1, stable=True)
    return torch.zeros_like(values).scatter(1, places, values.gather(1, drawn))
