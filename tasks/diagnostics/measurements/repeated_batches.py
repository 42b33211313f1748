"""Does an epoch of batches come out the same again, every seed being set?"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

FIRST = 4
"""Batches that are compared: an order that is drawn anew shows in the first one."""


@dataclass(frozen=True)
class RepeatedBatches:
    """Batches of the same seed and epoch, made twice."""

    different: int = quantity("batches that differ when made again")
    num_batches: int = quantity("batches compared")


def measure(probe: Probe) -> RepeatedBatches:
    """Make the first batches of an epoch twice, with all global seeds set alike."""
    first, second = _batches(probe), _batches(probe)
    pairs = list(zip(first, second, strict=False))
    different = sum(not _same(a, b) for a, b in pairs) + abs(len(first) - len(second))
    return RepeatedBatches(different, len(pairs))


def _batches(probe: Probe) -> list[Batch]:
    random.seed(probe.seed)
    np.random.seed(probe.seed)
    torch.manual_seed(probe.seed)
    batches = probe.ask("make_batches", probe.prepared, probe.seed, 0)
    try:
        return list(islice(batches, FIRST))
    except Exception as error:
        raise SubjectError.of("make_batches", error) from error


def _same(a: Batch, b: Batch) -> bool:
    if a.item_ids.shape != b.item_ids.shape:
        return False
    return bool((a.item_ids == b.item_ids).all() and (a.targets == b.targets).all())
