"""What a training recorded: complete, of this run, and consistent with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.diagnostics.measurements import handed_over, recorded_loss
from tasks.diagnostics.measurements.handed_over import validation
from tasks.diagnostics.measurements.loss_curve import column
from tasks.diagnostics.measurements.recorded_loss import RecordedLoss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Trained
from tasks.training.gates import has_gates

EPOCH_QUANTITIES = ("train/loss", "learning_rate")
STEP_QUANTITIES = ("train/loss", "learning_rate", "grad/norm")
FEWEST_ROWS = 5
"""Rows that have to be equal before a quantity counts as one that never changes."""

FEWEST_STEPS = 3
"""Recorded steps of an epoch from which the range of its losses is known."""


@dataclass(frozen=True)
class StepRecords:
    """Rows of `steps.jsonl`."""

    num_rows: int = quantity("recorded steps")
    absent: int = quantity("promised quantities that are not recorded")
    frozen: int = quantity("quantities that never change")
    not_finite: int = quantity("values that are not finite")
    wrong_flags: int = quantity("steps called clipped that were not, or the other way round")
    wrong_sums: int = quantity("steps whose norm is not that of its groups")
    at_limit: float = quantity("share of steps whose recorded norm is the clipping limit itself")
    first_absent: str = ""
    first_frozen: str = ""


@dataclass(frozen=True)
class TrainingRecords:
    """Rows of `epochs.jsonl`, and what ties them to this run."""

    num_epochs: int = quantity("recorded epochs")
    absent: int = quantity("promised quantities that are not recorded")
    frozen: int = quantity("quantities that never change")
    repeated: int = quantity("epochs with the loss of the one before, to the last digit")
    misnumbered: int = quantity("epochs that do not follow the one before")
    foreign: int = quantity("facts that belong to another run")
    apart: float | None = quantity("share of epochs whose loss is far from that of their steps")
    steps: StepRecords | None = None
    first_absent: str = ""
    first_frozen: str = ""
    first_foreign: str = ""
    loss: RecordedLoss | None = None


def measure(probe: Probe) -> TrainingRecords:
    """Read the rows."""
    trained = probe.subject.trained
    if trained is None:
        raise NotMeasuredError("a finished training; train the model, then run `assay diagnose`")
    if not trained.epochs:
        return _nothing_of(trained.record)
    rows = trained.epochs
    absent = [name for name in EPOCH_QUANTITIES if any(name not in row for row in rows)]
    absent += [] if all(validation(row) for row in rows) else ["val/..."]
    metrics = sorted(set.intersection(*(set(validation(row)) for row in rows)))
    frozen = [name for name in ("train/loss",) if is_frozen(column(rows, name))]
    # Single metrics may rest, and all are 0 where nothing is hit; together they move with weights.
    values = [column(rows, f"val/{name}") for name in metrics]
    rests = any(v.any() for v in values) and all(is_frozen(v) for v in values)
    if rests and not unmoved_epochs(trained):
        frozen.append("val/...")
    numbers = column(rows, "epoch")
    foreign = _foreign(probe)
    return TrainingRecords(
        num_epochs=len(rows),
        absent=len(absent),
        frozen=len(frozen),
        repeated=0 if unmoved_epochs(trained) else repeats(column(rows, "train/loss")),
        misnumbered=int((np.diff(numbers) != 1).sum()) + int(len(numbers) != len(rows)),
        foreign=len(foreign),
        apart=_apart(rows, trained.steps),
        steps=_steps(probe) if trained.steps else None,
        first_absent=absent[0] if absent else "",
        first_frozen=frozen[0] if frozen else "",
        first_foreign=foreign[0] if foreign else "",
        loss=_loss_of_weights(probe),
    )


def _loss_of_weights(probe: Probe) -> RecordedLoss | None:
    """The loss of the weights handed over, where they validate as the epoch they should be from."""
    try:
        if probe.evidence(handed_over.measure).differs:
            return None
    except (NotMeasuredError, NotOfferedError, SubjectError):
        pass
    try:
        return probe.evidence(recorded_loss.measure)
    except (NotMeasuredError, NotOfferedError, SubjectError):
        return None


def _nothing_of(record: Mapping[str, Any]) -> TrainingRecords:
    """Epochs without a row: missing where the run says that it made some."""
    if not record.get("num_epochs"):
        raise NotMeasuredError("a record of the epochs (epochs.jsonl)")
    absent = (*EPOCH_QUANTITIES, "val/...")
    first = f"{absent[0]}: {record['num_epochs']} epochs were made and none has a row"
    return TrainingRecords(0, len(absent), 0, 0, 0, 0, None, first_absent=first)


def unmoved_epochs(trained: Trained) -> int:
    """Epochs after the best one over which no weight moved, 0 where nothing is kept to tell."""
    last, best = trained.last_model, trained.record.get("best_epoch")
    if last is None or last is trained.model or not isinstance(best, int):
        return 0
    kept = trained.model.state_dict()
    rests = all(torch.equal(value, kept[name]) for name, value in last.state_dict().items())
    return max(0, len(trained.epochs) - best) if rests else 0


def is_frozen(values: np.ndarray) -> bool:
    """Return whether enough values are there and all are equal.

    >>> is_frozen(np.ones(5)), is_frozen(np.ones(4)), is_frozen(np.arange(5.0))
    (True, False, False)
    """
    return len(values) >= FEWEST_ROWS and bool((values == values[0]).all())


def repeats(values: np.ndarray) -> int:
    """Count values equal to the one before, among numbers written with six digits and more.

    >>> repeats(np.array([2.123456789, 2.123456789, 2.01])), repeats(np.array([2.5, 2.5]))
    (1, 0)
    """
    precise = np.abs(values - np.round(values, 5)) > 0
    return int(((values[1:] == values[:-1]) & precise[1:]).sum())


def _steps(probe: Probe) -> StepRecords:
    trained = probe.subject.trained
    assert trained is not None
    rows = trained.steps
    names = sorted(set().union(*rows))
    absent = [name for name in STEP_QUANTITIES if any(name not in row for row in rows)]
    absent += [] if any(name.startswith("update/") for name in names) else ["update/..."]
    gated = has_gates(trained.model)
    absent += ["gate/..."] if gated and not any(n.startswith("gate/") for n in names) else []
    kinds = ("train/", "grad/", "update/")
    moving = [n for n in names if n.startswith(kinds) and "clipped" not in n]
    frozen = [name for name in moving if is_frozen(column(rows, name))]
    values = [v for row in rows for v in row.values() if isinstance(v, float)]
    limit = probe.subject.declared.max_grad_norm
    norms = column(rows, "grad/norm")
    clips = limit > 0 and probe.subject.declared.states("max_grad_norm")
    return StepRecords(
        num_rows=len(rows),
        absent=len(absent),
        frozen=len(frozen),
        not_finite=sum(not math.isfinite(value) for value in values),
        wrong_flags=sum(_wrong_flag(row, limit) for row in rows) if clips else 0,
        wrong_sums=sum(_wrong_sum(row) for row in rows),
        at_limit=float((np.abs(norms / limit - 1) < 1e-4).mean()) if clips and len(norms) else 0.0,
        first_absent=absent[0] if absent else "",
        first_frozen=frozen[0] if frozen else "",
    )


def _wrong_flag(row: Mapping[str, Any], limit: float) -> bool:
    norm, flag = row.get("grad/norm"), row.get("grad/clipped")
    near = norm is not None and abs(norm / limit - 1) < 1e-4
    return norm is not None and flag is not None and not near and bool(flag) != (norm > limit)


def _wrong_sum(row: Mapping[str, Any]) -> bool:
    """The norm of all is the root of the sum of squares of the groups' norms."""
    parts = [v for n, v in row.items() if n.startswith("grad/") and n not in _WHOLE]
    norm = row.get("grad/norm")
    if not parts or norm is None or not math.isfinite(norm):
        return False
    return abs(math.hypot(*parts) - norm) > 1e-2 * max(norm, 1e-12)


_WHOLE = ("grad/norm", "grad/clipped", "grad/norm_mean", "grad/clipped_share")


def _apart(epochs: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of epochs whose loss is out of its steps' range by more than that range again."""
    outside, seen = 0, 0
    for row in epochs:
        own = column([s for s in steps if s.get("epoch") == row.get("epoch")], "train/loss")
        loss = row.get("train/loss")
        if len(own) < FEWEST_STEPS or loss is None:
            continue
        seen += 1
        low, high = float(own.min()), float(own.max())
        outside += int(not 2 * low - high <= loss <= 2 * high - low)
    return outside / seen if seen else None


def _foreign(probe: Probe) -> list[str]:
    """Facts on record that are not those of this model, data or these rows."""
    trained = probe.subject.trained
    assert trained is not None
    record = trained.record
    trainable = sum(p.numel() for p in trained.model.parameters() if p.requires_grad)
    pairs = {
        "data_hash": probe.data.manifest.get("data_hash"),
        "num_parameters": trainable,
        "num_epochs": len(trained.epochs),
        "num_steps": trained.epochs[-1].get("step"),
    }
    return [
        f"{name}: {record[name]} on record, {value} found"
        for name, value in pairs.items()
        if name in record and value is not None and record[name] != value
    ]
