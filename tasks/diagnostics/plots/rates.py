"""Learning-rate response: what a few steps make of the loss at rates around the declared one."""

from __future__ import annotations

import math
from typing import Any

import torch

from tasks.diagnostics.measurements.cures import Arm, run
from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe

Row = dict[str, Any]

MULTIPLES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
STEPS = 40


def learning_rate_response(probe: Probe) -> list[Row]:
    """Train new weights for forty steps at each rate, by the program's own steps.

    Returns:
        Rows with multiple (of the declared rate) and loss on the first batch afterwards, in eval
        mode; None where it is not finite.
    """
    batch = probe.all_batches[0]
    rows = []
    for multiple in MULTIPLES:
        model = probe.model()
        run(probe, model, Arm(STEPS, rate=multiple), probe.seed, every=STEPS + 1)
        with torch.no_grad():
            loss = float(program_loss(probe, model, batch))
        rows.append({"multiple": multiple, "loss": loss if math.isfinite(loss) else None})
    return rows
