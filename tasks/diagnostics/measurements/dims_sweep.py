"""Do other legal sizes build, run forward and backward, and give scores of the right shape?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

SHAPES = ((1, 1), (1, 2), (2, 1), (3, 5), (5, 3))
"""Rows and positions tried with the declared settings; one row and one position among them."""


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
    for rows, positions in SHAPES:
        small = _cut(batch, rows, positions)
        failures += _failure(probe, {}, small, f"batch of {rows} x {positions}")
    variants = probe.subject.variants
    for settings in variants:
        label = ", ".join(f"{name} {value}" for name, value in settings.items())
        failures += _failure(probe, settings, _cut(batch, 3, 5), label)
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
        model = probe.model(**settings).train()
        logits = probe.logits(model, batch)
        real = logits[..., 1:][batch.mask]
        try:
            real.sum().backward()
        except RuntimeError as error:
            raise SubjectError.of("logits", error) from error
        if not bool(torch.isfinite(real).all()):
            raise SubjectError("logits", "scores are not finite")
    except (SubjectError, NotMeasuredError) as error:
        return [f"{label}: {error}"]
    except NotOfferedError:
        raise
    return []
