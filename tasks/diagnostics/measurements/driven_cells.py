"""Do recurrent cells of unknown classes stay finite when what feeds their gates is extreme?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

FAR = 120.0
"""Beyond what float32 can exponentiate, up (88) and down (-104), and where a sigmoid ends."""

MOST_PAIRS = 60
"""Pairs per class of cell: all of eight parts, four gates read from the input and the state."""

RECURRENT = ("lstm", "gru", "rnn", "recurren")


@dataclass(frozen=True)
class DrivenCells:
    """Scores that are not finite when two parts of a cell are driven apart."""

    scores: int = quantity("scores that are not finite")
    num_cells: int = quantity("classes of cells driven")
    num_pairs: int = quantity("pairs of parts driven")
    where: str = ""


def measure(probe: Probe) -> DrivenCells:
    """Raise one part of a cell by 120 and lower another of the same width, pair by pair.

    Parts are what a cell's gates are made of: its children with a matrix, that give tensors. Which
    of them is the input gate and which the forget gate need not be known, as all pairs are tried; a
    stabilised cell is finite under any of them, and so is one whose gates are bounded.
    """
    batch = probe.batch(rows=2, positions=4)
    cells = _cells(probe, batch)
    if not cells:
        raise NotApplicableError("the model has no recurrent cell whose parts can be driven")
    bad, tried, where = 0, 0, ""
    for cell, parts in cells.items():
        for up, down in _pairs(parts):
            model = probe.model()
            modules = dict(model.named_modules())
            modules[f"{cell}.{up}"].register_forward_hook(_adding(FAR))
            modules[f"{cell}.{down}"].register_forward_hook(_adding(-FAR))
            with torch.no_grad():
                scores = probe.logits(model, batch)[..., 1:][batch.mask]
            wrong = int((~torch.isfinite(scores)).sum())
            tried += 1
            bad += wrong
            if wrong and not where:
                kind = type(modules[cell]).__name__
                where = f"{cell} ({kind}) with {up} {FAR:+g}, {down} {-FAR:+g}"
    return DrivenCells(bad, len(cells), tried, where)


def _adding(shift: float) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        return output + shift if isinstance(output, Tensor) else output

    return hook


def _cells(probe: Probe, batch: Batch) -> dict[str, dict[str, int]]:
    """Return parts and their widths of the first cell of each class, innermost cells alone."""
    model = probe.model()
    widths: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.ndim >= 2:
                widths[name] = int(output.shape[-1])

        return hook

    recurrent = {
        name: module
        for name, module in model.named_modules()
        if name
        and any(word in type(module).__name__.lower() for word in RECURRENT)
        and not isinstance(module, nn.RNNBase | nn.RNNCellBase)
    }
    for cell, module in recurrent.items():
        for child, part in module.named_children():
            part.register_forward_hook(note(f"{cell}.{child}"))
    with torch.no_grad():
        probe.logits(model, batch)
    found: dict[str, dict[str, int]] = {}
    seen: set[type] = set()
    for cell, module in recurrent.items():
        children = [child for child, part in module.named_children() if _has_matrix(part)]
        parts = {c: widths[f"{cell}.{c}"] for c in children if f"{cell}.{c}" in widths}
        if len(parts) >= 2 and type(module) not in seen:
            seen.add(type(module))
            found[cell] = parts
    return found


def _has_matrix(part: nn.Module) -> bool:
    """The part maps features by a matrix; norms and convolutions come before the gates."""
    return any(p.ndim == 2 for p in part.parameters())


def _pairs(parts: dict[str, int]) -> list[tuple[str, str]]:
    """Ordered pairs of parts of one width."""
    alike: dict[int, list[str]] = defaultdict(list)
    for name, width in parts.items():
        alike[width].append(name)
    pairs = [pair for names in alike.values() for pair in permutations(names, 2)]
    return pairs[:MOST_PAIRS]
