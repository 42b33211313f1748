"""Does scoring as at evaluation depend on what was scored before, or on weights since replaced?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.perturbation import other_items
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.untouched import untouched

NUM_USERS = 16


@dataclass(frozen=True)
class UsedScorer:
    """Changes of scores at evaluation by what the same model did before."""

    by_earlier_calls: float = quantity("standard deviations of the scores")
    by_old_weights: float = quantity("standard deviations of the scores")


def measure(probe: Probe) -> UsedScorer:
    """Score some histories by new models and by used ones with the same weights."""
    split = probe.data.test
    if len(split) == 0:
        raise NotMeasuredError("test examples")
    index = np.arange(min(NUM_USERS, len(split)))
    max_len = probe.subject.declared.max_seq_len
    histories = probe.ask("make_histories", probe.data, split, index, max_len)
    given = tuple(torch.as_tensor(np.asarray(part)) for part in histories)
    other = (other_items(given[0], probe.data.num_items, probe.seed), *given[1:])

    def new_model() -> nn.Module:
        model = probe.model()
        shake_weights(model, probe.seed)
        return model.to(probe.precision)

    def score(model: nn.Module, what: tuple[Tensor, ...]) -> Tensor:
        torch.manual_seed(probe.seed)
        return probe.ask("score", model, *what)[:, 1:].double()

    with untouched(), torch.no_grad():
        first = score(new_model(), given)
        used = new_model()
        score(used, other)
        again = score(used, given)
        renewed, old = new_model(), new_model()
        score(old, given)
        old.train()
        for model in (renewed, old):
            shake_weights(model, probe.seed + 1)
            model.eval()
        changed, stale = score(renewed, given), score(old, given)
    return UsedScorer(_change(first, again), _change(changed, stale))


def _change(expected: Tensor, found: Tensor) -> float:
    """Largest difference in standard deviations, over scores that are finite where expected."""
    there = torch.isfinite(expected)
    if not bool(there.any()):
        raise NotMeasuredError("finite scores at evaluation")
    largest = float((found - expected)[there].abs().nan_to_num(torch.inf).max())
    unit = float(expected[there].std(correction=0))
    return largest / unit if unit > 0 else float(largest > 0)
