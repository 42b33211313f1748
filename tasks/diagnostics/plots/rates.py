"""Learning-rate response: what a few steps make of the loss at rates around the declared one."""

from __future__ import annotations

import math
from typing import Any

import torch

from tasks.diagnostics.measurements.cures import Arm, run
from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError

Row = dict[str, Any]

MULTIPLES = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
STEPS = 40


def learning_rate_response(probe: Probe) -> list[Row]:
    """Train new weights for forty steps at each rate, by the program's own steps.

    Returns:
        Rows with multiple (of the declared rate; 0 is the loss before any step) and loss on the
        first batch afterwards, in eval mode; None where it is not finite or the program refuses to
        go on. Empty for a program without batches or steps.
    """
    try:
        return [
            {"multiple": multiple, "loss": _loss_after(probe, multiple)} for multiple in MULTIPLES
        ]
    except (NotMeasuredError, NotOfferedError):
        return []


def _loss_after(probe: Probe, multiple: float) -> float | None:
    model = probe.model()
    try:
        if multiple:
            run(probe, model, Arm(STEPS, rate=multiple), probe.seed, every=STEPS + 1)
        with torch.no_grad():
            loss = float(program_loss(probe, model, probe.all_batches[0]))
    except SubjectError:  # a program may stop at a loss that is not finite
        return None
    return loss if math.isfinite(loss) else None
