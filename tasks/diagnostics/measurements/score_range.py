"""Are the model's outputs scores, or have they been squashed into a bounded range already?"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

FACTORS = (30.0, 1e3, 1e5)
"""Growth of every weight: the largest one under which most scores are finite drives any squashing
function to its bounds, also behind layers that are bounded themselves."""


@dataclass(frozen=True)
class ScoreRange:
    """How scores are distributed over their range."""

    at_bounds: float = quantity("share of scores at the two values that occur most often")
    distance_from_shares: float = quantity("largest distance of a row's sum of scores from 1")
    padding_is_ruled_out: bool = quantity("padding column scores -inf")
    constant_items: int = quantity("items with one score in all histories")
    num_items: int = quantity("items")


def measure(probe: Probe) -> ScoreRange:
    """Look at scores under usual weights, and at their extremes under much larger ones.

    A score that is linear in some weight takes any one value about once; a sigmoid, tanh, softmax,
    ReLU or clamp takes its bounds again and again.
    """
    batch = probe.batch(rows=4, positions=8)
    model = probe.model()
    shake_weights(model, probe.seed)
    with torch.no_grad():
        logits = probe.logits(model, batch)
        before = logits[..., 1:][batch.mask].double()
        shares = [_at_bounds(probe, model, batch, factor) for factor in FACTORS]
    known = [share for share in shares if share is not None]
    if not known:
        raise NotMeasuredError("finite scores under 30-fold weights")
    share_like = bool((before >= 0).all())
    distance = float((before.sum(dim=-1) - 1).abs().max()) if share_like else float("inf")
    return ScoreRange(
        at_bounds=max(known),
        distance_from_shares=distance,
        padding_is_ruled_out=bool(torch.isneginf(logits[..., 0]).all()),
        constant_items=int((before == before[:1]).all(dim=0).sum()) if len(before) > 1 else 0,
        num_items=before.shape[1],
    )


def _at_bounds(probe: Probe, model: nn.Module, batch: Batch, factor: float) -> float | None:
    """Share of scores at two single values under larger weights; None where most are not finite.

    Bounds need not be the extremes: what is added behind a bound, for some items, goes beyond it.
    """
    large = copy.deepcopy(model)
    for parameter in large.parameters():
        parameter.mul_(factor)
    scores = probe.logits(large, batch)[..., 1:][batch.mask].double()
    finite = torch.isfinite(scores)
    if not bool(finite.double().mean() > 0.5):
        return None
    scores = scores[finite]
    _, counts = scores.unique(return_counts=True)
    return float(counts.topk(min(2, len(counts))).values.sum()) / len(scores)
