"""A plain LSTM in the model's place, with the same data, loss, optimiser and steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.baselines.lstm import LSTMCore
from tasks.diagnostics.measurements import simple_models, skill
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.cures import LONGER, MOST_STEPS
from tasks.diagnostics.measurements.model_ranks import model_ranks
from tasks.diagnostics.measurements.overfit import steps_in_budget
from tasks.diagnostics.measurements.reference_model import (
    gains_on_test,
    train_selected,
    with_reference,
)
from tasks.diagnostics.measurements.trends import chance_of_mean_below
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import quantity

HALF = 0.5
"""Share of the LSTM's gain below which a model is far behind it."""


@dataclass(frozen=True)
class PlainLSTM:
    """Gains over popularity on the same test users, NDCG over the whole catalogue."""

    lstm: float = quantity("gain of the LSTM per gain of transition counts")
    share: float = quantity("gain of the finished training per gain of the LSTM")
    longer_share: float | None = quantity("the same after four times the steps, better of two")
    p_behind: float = quantity("chance of a share this low if it were half, after the longer one")
    p_of_gain: float = quantity("chance of the LSTM's gain if it had none")
    steps: int = quantity("optimiser steps of the LSTM")


def measure(probe: Probe) -> PlainLSTM:
    """Train the LSTM; where the model is far behind, give it four times the steps, on two seeds."""
    probe.require("deep")
    found = probe.evidence(skill.measure)
    if not found.learnable:
        raise NotApplicableError(
            "transition counts rank no better than popularity: there is no order to learn"
        )
    if any(isinstance(module, LSTMCore) for module in probe.model().modules()):
        raise NotApplicableError("the model under test is a plain LSTM")
    simple = probe.evidence(simple_models.measure)
    popular, index = simple.popularity_gains, simple.index
    steps = min(steps_in_budget(probe), MOST_STEPS)
    inner = Probe(with_reference(probe, "lstm"), "deep", seed=probe.seed)
    lstm = gains_on_test(inner, train_selected(inner, steps, probe.seed), index) - popular
    trained = probe.model(trained=True)
    own = gains(model_ranks(probe, trained, probe.data.test, index)) - popular
    share = _ratio(own, lstm)
    behind = chance_of_mean_below(own - HALF * lstm)
    longer = None
    if share < HALF:
        # A second LSTM and two longer trainings of the model: the better one counts.
        second = train_selected(inner, steps, probe.seed + 1)
        lstm = (lstm + gains_on_test(inner, second, index) - popular) / 2
        runs = [
            gains_on_test(probe, train_selected(probe, LONGER * steps, seed), index) - popular
            for seed in (probe.seed, probe.seed + 1)
        ]
        best = max(runs, key=lambda run: float(run.mean()))
        longer, behind = _ratio(best, lstm), chance_of_mean_below(best - HALF * lstm)
    return PlainLSTM(
        lstm=float(lstm.mean()) / (simple.transitions - simple.popularity),
        share=share,
        longer_share=longer,
        p_behind=behind,
        p_of_gain=chance_of_mean_below(-lstm),
        steps=steps,
    )


def _ratio(own: np.ndarray, lstm: np.ndarray) -> float:
    scale = float(lstm.mean())
    return float(own.mean()) / scale if scale > 0 else 1.0
