"""Looks inside the blocks replayed as a CUDA graph say what one operation at a time says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.training.batches import WindowBatches
from tasks.training.gates import look_inside
from tasks.training.graph_look import GraphLook
from xlstm_model import SequenceRecommender, XLSTMStack

NUM_ITEMS, WIDTH, WINDOW = 40, 16, 12


def make_batches(device):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 30, size=50)
    offsets = np.concatenate([[0], lengths.cumsum()])
    items = rng.integers(1, NUM_ITEMS + 1, size=offsets[-1])
    return WindowBatches(items, offsets, max_seq_len=WINDOW, batch_size=9, seed=0, device=device)


def make_model(device):
    torch.manual_seed(0)
    core = XLSTMStack(WIDTH, "sm", num_heads=2, dropout=0.2)
    return SequenceRecommender(NUM_ITEMS, core, WIDTH, dropout=0.2).to(device)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ),
    ],
)
def test_a_replayed_look_is_the_same_look(device):
    model, look = make_model(device).train(), GraphLook(WINDOW)
    found = []
    for batch in make_batches(torch.device(device)).epoch(0):
        expected = look_inside(model, batch)
        assert look(model, batch) == pytest.approx(expected, rel=1e-3, abs=1e-5)
        found.append(tuple(expected.values()))
        with torch.no_grad():  # a replay reads the weights as they are now
            for parameter in model.parameters():
                parameter.mul_(1.1)
    assert len(set(found)) == len(found) > 3
    assert model.training
    assert (look._captured is not None) == (device == "cuda")
