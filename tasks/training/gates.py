"""How open the gates of an xLSTM are while it trains."""

from __future__ import annotations

import torch
from torch import nn

from tasks.training.batches import Batch
from tasks.training.parameter_names import parameter_group
from xlstm_model import MLSTMBlock, MLSTMLargeBlock, Recorder, SLSTMBlock

NUM_ROWS = 8
"""Rows of the batch that are looked at: looking replays the cells step by step."""


def has_gates(model: nn.Module) -> bool:
    """Whether the model holds an xLSTM block."""
    kinds = (MLSTMBlock, MLSTMLargeBlock, SLSTMBlock)
    return any(isinstance(module, kinds) for module in model.modules())


def gate_openness(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Mean openness of every gate over the real positions of the batch's first rows.

    Runs a forward pass of its own, without dropout or gradients, and leaves the model as it was.

    Args:
        model: a recommender with xLSTM blocks.
        batch: a training batch.

    Returns:
        ``<block>/<gate>`` with gates ``i`` and ``f`` (what is written and kept on the cell's
        running scale, 0..1) and, in sLSTM blocks, ``o`` (0..1).
    """
    was_training = model.training
    model.eval()
    rows = slice(0, NUM_ROWS)
    times = None if batch.times is None else batch.times[rows]
    with torch.no_grad(), Recorder(model) as recorder:
        model.encode(batch.item_ids[rows], mask=batch.mask[rows], times=times)
    model.train(was_training)
    return {
        f"{parameter_group(name + '.')}/{gate}": float(values[record.mask].mean())
        for name, record in recorder.blocks.items()
        for gate, values in record.gates.items()
        if gate != "z"  # the input of the cell, not a gate
    }
