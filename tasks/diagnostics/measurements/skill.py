"""How much better than popularity does the trained model rank, beside what counting gains?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.finding import FAMILY_LEVEL, Repeat
from tasks.diagnostics.measurements import simple_models
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.model_ranks import model_ranks
from tasks.diagnostics.measurements.simple_models import SimpleModels
from tasks.diagnostics.measurements.trends import chance_of_mean_below, chance_of_no_gain
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity

REACHED = 0.25
"""Share of the gain that counting transitions makes; below it a model has learned no order."""


@dataclass(frozen=True)
class Skill:
    """Mean NDCG over the whole catalogue on the same test users."""

    model: float = quantity("NDCG, test")
    popularity: float = quantity("NDCG, test")
    transitions: float = quantity("NDCG, test")
    share: float = quantity("gain over popularity per gain of transition counts")
    p_below: float = quantity("chance of a share this low if it were a quarter")
    p_of_gain: float = quantity("chance of such a gain over popularity if there were none")
    num_examples: int = quantity("test users")
    learnable: bool = quantity("transition counts beat popularity on test")

    @property
    def lacking(self) -> bool:
        """There is order to learn, and too little of it was learned for that to be chance."""
        return self.learnable and self.share < REACHED and self.p_below <= FAMILY_LEVEL


def measure(probe: Probe) -> Skill:
    """Rank the targets of the same test users with the trained model and by counting."""
    simple = probe.evidence(simple_models.measure)
    model = probe.model(trained=True)
    ranks = model_ranks(probe, model, probe.data.test, simple.index)
    return compare(gains(ranks), simple)


def of_skill(found: Skill) -> Repeat:
    """What a second training repeats: its share of the gain, and the chance of one so low."""
    return Repeat(found.share, found.p_below)


def compare(model: np.ndarray, simple: SimpleModels) -> Skill:
    """Put per-user gains (E,) of a model beside those of the count models."""
    popular, follow = simple.popularity_gains, simple.transition_gains
    gap = simple.transitions - simple.popularity
    own = float(model.mean()) - simple.popularity
    shortfall = (model - popular) - REACHED * (follow - popular)
    return Skill(
        model=float(model.mean()),
        popularity=simple.popularity,
        transitions=simple.transitions,
        share=own / gap if gap > 0 else 0.0,
        p_below=chance_of_mean_below(shortfall),
        p_of_gain=chance_of_no_gain(model, popular),
        num_examples=len(model),
        learnable=simple.learnable,
    )
