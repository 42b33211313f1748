"""Do cells stay finite, forward and backward, when their gates are driven to extremes?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, SubjectError
from tasks.diagnostics.question import quantity
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence

SHIFTS = (100.0, -100.0)
"""Beyond what float32 can exponentiate (88); the cells' stabiliser makes both harmless."""

PATTERNS = ("everywhere", "first", "later")
"""Positions whose input gates are shifted: a scale that follows the last gate alone is right as
long as all are alike."""

LOWEST = -25.0
"""Input gates of the mLSTM go no lower: the published bound exp(-m), written out, is squared in its
gradient, which float32 holds up to m = -44, and gates start at -10. The sLSTM has no such bound."""


@dataclass(frozen=True)
class ExtremeGates:
    """Values that are not finite under shifted gate pre-activations."""

    scores: int = quantity("scores that are not finite")
    gradients: int = quantity("gradient entries that are not finite")
    num_cells: int = quantity("cells")
    where: str = ""


def measure(probe: Probe) -> ExtremeGates:
    """Shift input and forget gates of every cell far up and down, one combination at a time."""
    batch = probe.batch(rows=4, positions=12)
    scores = gradients = cells = 0
    where = ""
    tried = [(SHIFTS[0], pattern) for pattern in PATTERNS] + [(SHIFTS[1], "everywhere")]
    for (up, pattern), forget in product(tried, SHIFTS):
        model = probe.model()
        cells = _shift(model, up, forget, pattern)
        if cells == 0:
            raise NotApplicableError("the model has no mLSTM or sLSTM cell")
        logits = probe.logits(model, batch)[..., 1:][batch.mask]
        bad = int((~torch.isfinite(logits)).sum())
        scores += bad
        try:
            torch.nan_to_num(logits).square().mean().backward()
        except RuntimeError as error:
            raise SubjectError.of("logits", error) from error
        wrong = [
            name
            for name, p in model.named_parameters()
            if p.grad is not None and not bool(torch.isfinite(p.grad).all())
        ]
        gradients += len(wrong)
        if (bad or wrong) and not where:
            where = f"input gate {up:+g} ({pattern}), forget gate {forget:+g}" + (
                f", {wrong[0]}" if wrong else ""
            )
    return ExtremeGates(scores, gradients, cells, where)


def _shift(model: nn.Module, up: float, forget: float, pattern: str) -> int:
    """Add to the gate pre-activations that cells are given; return the number of cells."""

    def by_position(length: int, like: Tensor, lowest: float) -> Tensor:
        """Shifts of the input gate (S,): as asked at the chosen positions, else the lowest."""
        chosen = up if up > 0 else lowest
        shift = torch.full((length,), chosen if pattern != "later" else lowest).to(like)
        shift[1:] = chosen if pattern != "first" else lowest
        return shift

    def mlstm(module: nn.Module, args: tuple) -> tuple:
        given: Tensor = args[3]
        opened = given + by_position(given.shape[2], given, LOWEST)
        return (*args[:3], opened, args[4] + forget, *args[5:])

    def slstm(module: nn.Module, args: tuple) -> tuple:
        given: Tensor = args[0].clone()
        given[:, :, 0] += by_position(given.shape[1], given, 1.2 * SHIFTS[1])[:, None, None]
        given[:, :, 1] += forget
        return (given, *args[1:])

    cells = 0
    for module in model.modules():
        if isinstance(module, MLSTMRecurrence):
            module.register_forward_pre_hook(mlstm)
            cells += 1
        elif isinstance(module, SLSTMRecurrence) and module.cell == "slstm":
            module.register_forward_pre_hook(slstm)
            cells += 1
    return cells
