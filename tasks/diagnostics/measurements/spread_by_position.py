"""Do scores tell users apart as well at the end of a window as at its beginning?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

FEWEST = 4
ON_A_LINE = 1e-6
"""Variance off the main direction, as a share of all, below which scores lie on a line: rounding
leaves 1e-12."""


@dataclass(frozen=True)
class SpreadByPosition:
    """Standard deviation of scores between users, position by position."""

    last_over_first: float = quantity("spread at the last position over that at the first")
    power: float = quantity("power of the number of positions by which the spread changes")
    num_positions: int = quantity("positions")
    by_position: tuple[float, ...] = ()


def measure(probe: Probe) -> SpreadByPosition:
    """Score full windows of several users with new weights; compare users position by position."""
    batch = probe.batch(rows=16, positions=64)
    lengths = batch.lengths
    width = int(lengths.sort(descending=True).values[: max(2, len(lengths) // 2)].min())
    full = batch.rows(batch.mask[:, :width].all(dim=1).nonzero().flatten())
    full = full.columns(slice(0, width))
    if width < FEWEST or len(full.item_ids) < 2:
        raise NotMeasuredError(f"two full training windows of {FEWEST} events, padded on the right")
    scores = probe.replay(full, shake=False)
    if lie_on_a_line(scores):
        raise NotMeasuredError(
            "scores that move in more than one direction: two features, once "
            "normalised, keep nothing but a sign"
        )
    spread: Tensor = scores.std(dim=0, correction=0).mean(dim=-1)
    first, last = float(spread[0]), float(spread[-1])
    if not first > 0:
        raise NotMeasuredError("scores that differ between users after one event")
    power = math.log(last / first) / math.log(width) if last > 0 else -math.inf
    return SpreadByPosition(last / first, power, width, tuple(spread.tolist()))


def lie_on_a_line(scores: Tensor) -> bool:
    """Whether scores of all users at all positions differ along a single direction.

    Args:
        scores: (B, S, V), finite.

    >>> import torch
    >>> place, direction = torch.randn(3, 4, 1), torch.randn(5)
    >>> lie_on_a_line(place * direction + 2), lie_on_a_line(torch.randn(3, 4, 5))
    (True, False)
    >>> lie_on_a_line(torch.ones(3, 4, 5))  # they do not differ at all
    False
    """
    centred = scores.flatten(0, 1).double()
    centred = centred - centred.mean(dim=0)
    squares = torch.linalg.svdvals(centred).square()
    return bool(squares[1:].sum() < ON_A_LINE * squares[0])
