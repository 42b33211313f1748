"""The typed contract of what is handed from stage to stage, checked on the real thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch


@dataclass(frozen=True)
class BatchFormat:
    """Breaches of dtype, shape and range, with the first one in words."""

    violations: int = quantity("breaches of the contract between stages")
    padding_mismatches: int = quantity("positions where mask and item id disagree")
    padded_targets: int = quantity("positions that ask for an item though their input is padding")
    num_batches: int = quantity("batches")
    first_violation: str = ""


def measure(probe: Probe) -> BatchFormat:
    """Check prepared arrays, every batch, and the logits of one."""
    found = list(_prepared_violations(probe))
    mismatches = padded = 0
    for number, batch in enumerate(probe.all_batches):
        found += [f"batch {number}: {text}" for text in _batch_violations(batch, probe)]
        if batch.mask.shape == batch.item_ids.shape:
            mismatches += int((batch.mask != (batch.item_ids != 0)).sum())
        if batch.mask.shape == batch.targets.shape:
            padded += int((batch.asked & (batch.item_ids == 0)).sum())
    if not found:
        logits = probe.logits(probe.model(), probe.batch())
        if not logits.is_floating_point():
            found.append(f"logits are {logits.dtype}, expected a floating type")
    return BatchFormat(
        violations=len(found),
        padding_mismatches=mismatches,
        padded_targets=padded,
        num_batches=len(probe.all_batches),
        first_violation=found[0] if found else "",
    )


def _prepared_violations(probe: Probe) -> list[str]:
    data = probe.data
    found = []
    for name, packed in (("train", data.train), ("val", data.val.extra), ("test", data.test.extra)):
        items = np.asarray(packed.items)
        if items.dtype.kind not in "iu":
            found.append(f"{name} item ids are {items.dtype}, expected integers")
        elif len(items) and (items.min() < 1 or items.max() > data.num_items):
            found.append(
                f"{name} item ids reach from {items.min()} to {items.max()}, "
                f"expected 1..{data.num_items}"
            )
        if np.asarray(packed.times).dtype != np.int64:
            found.append(f"{name} times are {np.asarray(packed.times).dtype}, expected int64")
        if np.any(np.diff(np.asarray(packed.offsets)) < 0):
            found.append(f"{name} offsets go backwards")
    return found


def _batch_violations(batch: Batch, probe: Probe) -> list[str]:
    found = []
    shape = tuple(batch.item_ids.shape)
    for name in ("item_ids", "targets"):
        tensor = getattr(batch, name)
        if tensor.dtype not in (torch.int64, torch.int32):
            found.append(f"{name} are {tensor.dtype}, expected int64")
        elif tuple(tensor.shape) != shape or tensor.ndim != 2:
            found.append(f"{name} have shape {tuple(tensor.shape)}, expected {shape}")
        elif tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) <= (
            probe.data.num_items
        ):
            found.append(f"{name} hold ids outside 0..{probe.data.num_items}")
    if batch.mask.dtype != torch.bool or tuple(batch.mask.shape) != shape:
        found.append(f"mask is {batch.mask.dtype} {tuple(batch.mask.shape)}, expected bool {shape}")
    if batch.times is not None and tuple(batch.times.shape) != shape:
        found.append(f"times have shape {tuple(batch.times.shape)}, expected {shape}")
    return found
