"""Planted faults, listed by the room they spoil."""

from __future__ import annotations

from tasks.faults import data_faults, evaluation_faults, model_faults, training_faults
from tasks.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *data_faults.FAULTS,
    *model_faults.FAULTS,
    *training_faults.FAULTS,
    *evaluation_faults.FAULTS,
)
