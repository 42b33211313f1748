"""The strip-down ladder: the model with one part after the other taken out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tasks.diagnostics.declared import Declared
from tasks.diagnostics.measurements import simple_models, skill
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.cures import MOST_STEPS
from tasks.diagnostics.measurements.model_ranks import model_ranks
from tasks.diagnostics.measurements.overfit import steps_in_budget
from tasks.diagnostics.measurements.reference_model import gains_on_test, train_selected
from tasks.diagnostics.measurements.trends import chance_of_mean_below
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.rungs import RUNGS, find_stack, stack_settings
from tasks.diagnostics.subject import Subject

PLAIN = "vanilla_lstm"
CLOSED = 0.5
"""Share of the gap to the plain LSTM that a rung closes where learning starts."""

BEHIND = 0.5
CERTAIN = 0.01
SEEDS = 2
Z_95 = 1.96
"""Standard errors on either side of a mean that make an interval of 95 %."""


@dataclass(frozen=True)
class RungGain:
    """What a rung gains over popularity, and how far it is from the full one, paired over users."""

    rung: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Ladder:
    """Which part stands in the way, by training.

    Attributes:
        gains: Of every rung: gain over popularity, and the 95 % interval of its distance from the
            full one; all per gain of transition counts, means over seeds.
    """

    full: float = quantity("gain of the full model per gain of transition counts")
    plain: float = quantity("gain of the plain LSTM rung per gain of transition counts")
    starts_at: str = quantity("first rung that closes half of the gap, '' where there is no gap")
    num_trained: int = quantity("trainings")
    p_behind: float = quantity("chance of so low a gain if it were half of the plain LSTM's")
    gains: tuple[RungGain, ...] = ()
    told: tuple[str, ...] = quantity(
        "rung: gain per gain of transition counts, and 95 % interval of its distance from full",
        default=(),
    )


def rung_subject(probe: Probe, rung: str) -> Subject:
    """Return the program with the stack of a rung, and declared to be that.

    Raises:
        NotApplicableError: The model holds no xLSTM stack.
        NotMeasuredError: The program's builder does not know rungs.
    """
    subject = probe.subject
    found = find_stack(probe.model())
    if found is None:
        raise NotApplicableError("the model holds no xLSTM stack to strip down")
    build = subject.build_model
    assert build is not None

    def build_rung(num_items: int, seed: int, **settings: Any) -> nn.Module:
        return build(num_items, seed, **{"rung": rung, **settings})

    stripped = subject.replace(ready=probe.prepared, build_model=build_rung)
    inner = Probe(stripped, probe.mode, seed=probe.seed)
    at_rung = find_stack(inner.model())
    if at_rung is None:
        raise NotMeasuredError("a builder of models that takes `rung`")
    declared = declared_at(subject.declared, stack_settings(at_rung[1]))
    return stripped.replace(declared=declared, name=f"{subject.name} at rung {rung}")


def declared_at(declared: Declared, settings: dict[str, Any]) -> Declared:
    """Return what a program declares once its stack has these settings."""
    names = ("gate", "convolution", "norm", "residual", "mlstm_normalizer", "slstm_cell")
    return dataclasses.replace(declared, **{name: settings[name] for name in names})


def measure(probe: Probe) -> Ladder:
    """Train every rung; where the full model is far behind, say where learning starts."""
    probe.require("deep")
    if find_stack(probe.model()) is None:
        raise NotApplicableError("the model holds no xLSTM stack to strip down")
    found = probe.evidence(skill.measure)
    if not found.learnable:
        raise NotApplicableError(
            "transition counts rank no better than popularity: there is no order to learn"
        )
    simple = probe.evidence(simple_models.measure)
    finished = gains(model_ranks(probe, probe.model(trained=True), probe.data.test, simple.index))
    by_rung = {rung: _mean_gain(probe, rung) for rung in RUNGS}
    # A single training may have been unlucky: the better of the finished one and its rung counts.
    both = (finished - simple.popularity_gains, by_rung[RUNGS[0]])
    return compare_rungs(
        max(both, key=lambda gain: float(gain.mean())),
        by_rung,
        simple.transitions - simple.popularity,
    )


def compare_rungs(own: np.ndarray, by_rung: Mapping[str, np.ndarray], scale: float) -> Ladder:
    """Put the rungs beside the full model.

    Args:
        own: Gain over popularity of the full model per test user, (E,).
        by_rung: The same of every rung, top first.
        scale: Mean gain of transition counts.
    """
    plain = by_rung[PLAIN]
    p_behind = chance_of_mean_below(own - BEHIND * plain)
    rungs = tuple(_beside(rung, gain, by_rung[RUNGS[0]], scale) for rung, gain in by_rung.items())
    return Ladder(
        full=float(own.mean()) / scale,
        plain=float(plain.mean()) / scale,
        starts_at=_climb(own, by_rung) if p_behind <= CERTAIN else "",
        num_trained=SEEDS * len(by_rung),
        p_behind=p_behind,
        gains=rungs,
        told=tuple(f"{r.rung}: {r.share:.2f} ({r.low:+.2f} to {r.high:+.2f})" for r in rungs),
    )


def _beside(rung: str, gain: np.ndarray, full: np.ndarray, scale: float) -> RungGain:
    apart = gain - full
    error = float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else math.inf
    low, high = (float(apart.mean()) + sign * Z_95 * error for sign in (-1, 1))
    return RungGain(rung, float(gain.mean()) / scale, low / scale, high / scale)


def _climb(full: np.ndarray, by_rung: Mapping[str, np.ndarray]) -> str:
    """Return the first rung down that closes half of the gap, certainly; the plain one at last."""
    gap = float(by_rung[PLAIN].mean() - full.mean())
    for rung in RUNGS[1 : RUNGS.index(PLAIN)]:
        gain = by_rung[rung]
        closed = float(gain.mean() - full.mean()) >= CLOSED * gap
        if closed and chance_of_mean_below(full - gain) <= CERTAIN:
            return rung
    return PLAIN


def _mean_gain(probe: Probe, rung: str) -> np.ndarray:
    """Gain over popularity per test user of a rung, mean over seeds; the program's own budget."""
    simple = probe.evidence(simple_models.measure)
    inner = Probe(rung_subject(probe, rung), "deep", seed=probe.seed)
    steps = min(steps_in_budget(probe), MOST_STEPS)
    found = [
        gains_on_test(inner, train_selected(inner, steps, seed), simple.index)
        for seed in range(probe.seed, probe.seed + SEEDS)
    ]
    mean = np.mean(found, axis=0) - simple.popularity_gains
    return mean if math.isfinite(float(mean.mean())) else np.full_like(mean, -1.0)
