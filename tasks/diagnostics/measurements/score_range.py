"""Are the model's outputs scores, or have they been squashed into a bounded range already?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

FACTOR = 30.0
"""Growth of every weight; it drives any squashing function to its bounds."""


@dataclass(frozen=True)
class ScoreRange:
    """How scores are distributed over their range."""

    at_bounds: float = quantity("share of scores equal to the largest or smallest one")
    distance_from_shares: float = quantity("largest distance of a row's sum of scores from 1")
    padding_is_ruled_out: bool = quantity("padding column scores -inf")


def measure(probe: Probe) -> ScoreRange:
    """Look at scores under usual weights, and at their extremes under 30-fold weights.

    A score that is linear in some weight takes its extreme value about once; a sigmoid, tanh,
    softmax, ReLU or clamp takes it again and again.
    """
    batch = probe.batch(rows=4, positions=8)
    model = probe.model()
    shake_weights(model, probe.seed)
    with torch.no_grad():
        logits = probe.logits(model, batch)
        before = logits[..., 1:][batch.mask].double()
        for parameter in model.parameters():
            parameter.mul_(FACTOR)
        after = probe.logits(model, batch)[..., 1:][batch.mask].double()
    after = after[torch.isfinite(after)]
    if not after.numel():
        raise NotMeasuredError("finite scores under 30-fold weights")
    low, high = float(after.min()), float(after.max())
    near = 1e-6 * max(abs(low), abs(high), 1e-30)
    extreme = (after - low < near) | (high - after < near)
    share_like = bool((before >= 0).all())
    distance = float((before.sum(dim=-1) - 1).abs().max()) if share_like else float("inf")
    return ScoreRange(
        at_bounds=float(extreme.double().mean()),
        distance_from_shares=distance,
        padding_is_ruled_out=bool(torch.isneginf(logits[..., 0]).all()),
    )
