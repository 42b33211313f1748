"""Are the weights handed over the ones whose validation was the best on record?"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

PREFIX = "val/"
SAME = 1e-3
"""Difference of a metric below which two evaluations count as one; two examples' worth where there
are few: arithmetic of another device or thread count moves near ties."""


@dataclass(frozen=True)
class HandedOver:
    """The recorded best epoch beside the weights that are evaluated."""

    best_epoch: int = quantity("epoch")
    nearest_epoch: int = quantity("epoch whose recorded validation is nearest to these weights'")
    difference: float = quantity("largest difference of a validation metric from the record")
    shortfall: float = quantity("best metric of any epoch minus that of the epoch called best")
    num_examples: int = quantity("validation examples")
    record_holds: bool = quantity("some weights validate as the record says of their epoch")
    record_is_test: bool = quantity("the record of the best epoch is what these weights test at")
    worst_metric: str = ""

    @property
    def differs(self) -> bool:
        """The weights validate otherwise than on record."""
        return self.difference > max(SAME, 2.0 / self.num_examples)


def measure(probe: Probe) -> HandedOver:
    """Validate the trained weights again, by the program's own evaluation."""
    trained = probe.subject.trained
    if trained is None:
        raise NotMeasuredError("a finished training; train the model, then run `assay diagnose`")
    rows = {
        int(row["epoch"]): validation(row)
        for row in trained.epochs
        if "epoch" in row and validation(row)
    }
    best = trained.record.get("best_epoch")
    if not rows or best not in rows:
        raise NotMeasuredError("validation metrics per epoch and `best_epoch` in the records")
    examples = len(probe.data.val)
    if examples == 0:
        raise NotMeasuredError("validation examples")
    again = _evaluated(probe, probe.model(trained=True), "val")
    shared = sorted(set(again) & set(rows[best]))
    if not shared:
        raise NotMeasuredError(
            f"a metric of the records that `evaluate` gives too: {sorted(again)}"
        )
    distances = {epoch: _distance(row, again, shared) for epoch, row in rows.items()}
    worst = max(shared, key=lambda name: abs(again[name] - rows[best][name]))
    nearest = min(distances, key=lambda epoch: distances[epoch])
    same = max(SAME, 2.0 / examples)
    differs = distances[best] > same
    tested = _evaluated(probe, probe.model(trained=True), "test") if differs else {}
    return HandedOver(
        best_epoch=int(best),
        nearest_epoch=nearest,
        difference=distances[best],
        shortfall=_shortfall(rows, int(best)),
        num_examples=examples,
        record_holds=distances[nearest] <= same or _last_holds(probe, rows, shared, same),
        record_is_test=differs
        and set(shared) <= set(tested)
        and _distance(rows[best], tested, shared) <= SAME,
        worst_metric=worst,
    )


def _evaluated(probe: Probe, model: nn.Module, split: str) -> dict[str, float]:
    """Metrics of a split by the program's own evaluation, without the split's name."""
    with torch.no_grad():
        found = probe.ask("evaluate", probe.subject.replace(ready=probe.prepared), model, split)
    return {name.removeprefix(f"{split}/"): float(value) for name, value in found.items()}


def _last_holds(
    probe: Probe, rows: dict[int, dict[str, float]], names: list[str], same: float
) -> bool:
    """Whether the weights of the last step validate as the last epoch's record says."""
    last = probe.subject.trained.last_model
    if last is None:
        return False
    again = _evaluated(probe, copy.deepcopy(last).eval(), "val")
    return _distance(rows[max(rows)], again, names) <= same


def validation(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the validation metrics of a recorded epoch, without their prefix.

    >>> validation({"epoch": 1, "val/ndcg_at_10": 0.5, "val/loss": 2.0})
    {'ndcg_at_10': 0.5}
    """
    named = {name: value for name, value in row.items() if "_at_" in name}
    return {
        name.removeprefix(PREFIX): float(value)
        for name, value in named.items()
        if name.startswith(PREFIX) and isinstance(value, int | float)
    }


def _distance(row: dict[str, float], again: dict[str, float], names: list[str]) -> float:
    return max(abs(again[name] - row.get(name, float("inf"))) for name in names)


def _shortfall(rows: dict[int, dict[str, float]], best: int) -> float:
    """How far the best epoch is from the maximum of the metric by which it is nearest to it."""
    gaps = [
        max(row.get(name, 0.0) for row in rows.values()) - value
        for name, value in rows[best].items()
    ]
    return min(gaps)
