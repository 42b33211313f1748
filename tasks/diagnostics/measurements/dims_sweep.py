"""Do other legal sizes build, run forward and backward, and give scores of the right shape?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

SHAPES = ((1, 1), (1, 2), (2, 1), (3, 5), (5, 3))
"""Rows and positions tried with the declared settings; one row and one position among them."""

TRIES = 4
"""Passes of a size whose scores are not finite; one that is finite tells that others can be."""


@dataclass(frozen=True)
class DimsSweep:
    """Sizes that were tried, and what failed."""

    num_settings: int = quantity("other settings built and run")
    num_shapes: int = quantity("batch shapes run")
    failures: int = quantity("settings or shapes that failed")
    first_failure: str = ""


def measure(probe: Probe) -> DimsSweep:
    """Run a forward and a backward pass for every shape and every variant of the settings."""
    failures = []
    batch = probe.batch(rows=5, positions=5)
    longest = max(1, probe.subject.declared.max_seq_len)
    for rows, positions in sorted({(rows, min(width, longest)) for rows, width in SHAPES}):
        small = _cut(batch, rows, positions)
        failures += _failure(probe, {}, small, f"batch of {rows} x {positions}")
    variants = probe.subject.variants
    for settings in variants:
        label = ", ".join(f"{name} {value}" for name, value in settings.items())
        failures += _failure(probe, settings, _cut(batch, 3, min(5, longest)), label)
    return DimsSweep(
        num_settings=len(variants),
        num_shapes=len(SHAPES),
        failures=len(failures),
        first_failure=failures[0] if failures else "",
    )


def _cut(batch: Batch, rows: int, positions: int) -> Batch:
    """Return a batch of exactly that shape, rows and positions repeated where too few are real."""
    row_index = torch.arange(rows) % len(batch.item_ids)
    column_index = torch.arange(positions) % batch.item_ids.shape[1]
    return batch.rows(row_index).columns(column_index)


def _failure(probe: Probe, settings: Mapping[str, Any], batch: Batch, label: str) -> list[str]:
    try:
        # A size that fails does so every time; what fails now and then is no matter of sizes.
        if not any(_runs(probe, settings, batch, number) for number in range(TRIES)):
            raise SubjectError("logits", "scores are not finite")
    except (SubjectError, NotMeasuredError) as error:
        return [f"{label}: {error}"]
    return []


def _runs(probe: Probe, settings: Mapping[str, Any], batch: Batch, number: int) -> bool:
    """Pass forward and backward under other noise; return whether the scores are finite."""
    model = _in_training(probe.model(**settings), batch)
    torch.manual_seed(probe.seed + number)
    real = probe.logits(model, batch)[..., 1:][batch.mask]
    try:
        real.sum().backward()
    except RuntimeError as error:
        raise SubjectError.of("logits", error) from error
    return bool(torch.isfinite(real).all())


def _in_training(model: nn.Module, batch: Batch) -> nn.Module:
    """Put the model into training mode; batch norms stay out of it where there is one row."""
    model.train()
    if len(batch.item_ids) == 1:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    return model
