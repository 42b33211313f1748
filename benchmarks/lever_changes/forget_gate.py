"""Other first values of the sLSTM's forget-gate bias than the published power law."""

from __future__ import annotations

import torch

from tasks.training.assemble import Trial
from xlstm_model.blocks.recurrence import SLSTMRecurrence

FORGET = 1
"""Place of the forget gate among i, f, z and o."""


@torch.no_grad()
def start_forget_bias(trial: Trial, value: float) -> Trial:
    """The bias starts at one value in every unit.

    Raises:
        ValueError: the model has no sLSTM block, so that nothing would change.
    """
    cells = [m for m in trial.parts.model.modules() if isinstance(m, SLSTMRecurrence)]
    if not cells:
        raise ValueError("the model has no sLSTM block; expected one whose forget gate can start.")
    for cell in cells:
        cell.bias[:, FORGET] = value
    return trial
