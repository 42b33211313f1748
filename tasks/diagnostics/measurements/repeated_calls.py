"""Is a score a function of weights and input? Calls after other calls, and after other weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.clipping import without_dropout
from tasks.diagnostics.measurements.perturbation import change_rows, largest_change, spread
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch


@dataclass(frozen=True)
class RepeatedCalls:
    """Changes of the scores of one batch, while neither it nor the weights change."""

    by_randomness: float = quantity("standard deviations of the logits")
    by_earlier_calls: float = quantity("standard deviations of the logits")
    by_earlier_training: float | None = quantity("standard deviations of the logits")
    by_old_weights: float = quantity("standard deviations of the logits")


class _Calls:
    """Scores of batches by models of one program, all with the same weights at the start."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.batch = probe.batch()

    def model(self) -> nn.Module:
        model = self.probe.model()
        shake_weights(model, self.probe.seed)
        return model.to(self.probe.precision)

    def scores(self, model: nn.Module, batch: Batch, *, seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        logits = self.probe.logits(model, batch)[..., 1:].detach().double()
        if not bool(torch.isfinite(logits[batch.mask]).all()):
            raise NotMeasuredError("finite logits; see question weights_move_and_stay_finite")
        return logits

    def other(self, number: int) -> Batch:
        """Return a batch of the same shape with other items."""
        probe = self.probe
        return change_rows(self.batch, slice(None), probe.data.num_items, probe.seed + number)

    def after(self, earlier: Batch, prepare: Callable[[nn.Module], object]) -> Tensor:
        """Scores of the batch by a model that has scored another one."""
        model = self.model()
        prepare(model)
        self.scores(model, earlier)
        return self.scores(model, self.batch)

    def with_new_weights(self, *, used: bool) -> Tensor:
        """Scores under other weights, by a model that has or has not scored under the first."""
        model = self.model()
        if used:
            self.scores(model, self.batch)
            # As between two validations; what is kept while scoring may be dropped here.
            model.train()
            model.eval()
        shake_weights(model, self.probe.seed + 1)
        return self.scores(model, self.batch)


def measure(probe: Probe) -> RepeatedCalls:
    """Compare new models with equal weights that have done different things before.

    Randomness: unequal random states. Earlier calls: another batch of the same shape was scored
    before, so that a kept result of that shape shows as well as a kept state. The same in training
    mode, without dropout: there only what came before differs, as some norms keep count of calls.
    Old weights: a score was asked for before the weights changed, as between two epochs.
    """
    calls = _Calls(probe)
    with torch.no_grad():
        first = calls.scores(calls.model(), calls.batch)
        noisy = calls.scores(calls.model(), calls.batch, seed=2)
        again = calls.after(calls.other(0), nn.Module.eval)
        renewed = calls.with_new_weights(used=False)
        stale = calls.with_new_weights(used=True)
    mask = calls.batch.mask
    unit = spread(first, mask)
    return RepeatedCalls(
        by_randomness=largest_change(first, noisy, mask, unit),
        by_earlier_calls=largest_change(first, again, mask, unit),
        by_earlier_training=_in_training(calls, unit),
        by_old_weights=largest_change(renewed, stale, mask, spread(renewed, mask)),
    )


def _in_training(calls: _Calls, unit: float) -> float | None:
    def prepare(model: nn.Module) -> None:
        without_dropout(model)
        model.train()

    try:
        with torch.enable_grad():
            one, two = (calls.after(calls.other(number), prepare) for number in (0, 1))
    except (NotMeasuredError, SubjectError):
        return None
    return largest_change(one, two, calls.batch.mask, unit)
