"""Is a score a function of its input? The same batch again, and with another batch between."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.perturbation import (
    change_rows,
    largest_change,
    spread,
)
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class RepeatedCalls:
    """Changes of the scores of one batch in eval mode, while nothing about it changes."""

    by_randomness: float = quantity("standard deviations of the logits")
    by_earlier_calls: float = quantity("standard deviations of the logits")


def measure(probe: Probe) -> RepeatedCalls:
    """Call one model three times in eval mode.

    Randomness: two new models with equal weights and unequal random states. Earlier calls: one
    model, equal random states, another batch in between.
    """
    batch = probe.batch()
    other = change_rows(batch, slice(None), probe.data.num_items, probe.seed)

    def call(model: torch.nn.Module, given: object, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            logits = probe.logits(model, given)[..., 1:].double()
        if not bool(torch.isfinite(logits[batch.mask]).all()):
            raise NotMeasuredError("finite logits; see question weights_move_and_stay_finite")
        return logits

    def new_model() -> torch.nn.Module:
        model = probe.model()
        shake_weights(model, probe.seed)
        return model.to(probe.precision)

    model = new_model()
    first = call(model, batch, seed=1)
    call(model, other, seed=1)
    again = call(model, batch, seed=1)
    noisy = call(new_model(), batch, seed=2)
    unit = spread(first, batch.mask)
    return RepeatedCalls(
        by_randomness=largest_change(first, noisy, batch.mask, unit),
        by_earlier_calls=largest_change(first, again, batch.mask, unit),
    )
