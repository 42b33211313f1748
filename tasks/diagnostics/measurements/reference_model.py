"""Known models put in the place of the one under test, with the rest of the program around them."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.baselines.gru import GRUCore
from tasks.baselines.lstm import LSTMCore
from tasks.diagnostics.measurements import cures
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.model_ranks import model_ranks
from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.measurements.simple_models import spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.subject import Batch, Subject
from xlstm_model import SequenceRecommender

CORES: dict[str, type[nn.Module]] = {"gru": GRUCore, "lstm": LSTMCore}
USUAL_WIDTH = 64


def with_reference(probe: Probe, core: Literal["gru", "lstm"]) -> Subject:
    """Return the program with a plain recurrence of the model's own width in its place.

    A program around a `SequenceRecommender` keeps every other part. Around a module of another
    kind, what reads the model (logits, loss, scores) is exchanged too.
    """
    subject, declared = probe.subject, probe.subject.declared
    model = probe.model()
    table = item_embedding(model, probe.data.num_items)
    width = USUAL_WIDTH if table is None else table.embedding_dim

    def build(num_items: int, seed: int, **settings: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SequenceRecommender(
                num_items, CORES[core](width), width, tied=declared.tied, dropout=declared.dropout
            )

    parts: dict[str, Any] = {"build_model": build, "name": f"{core} in {subject.name}"}
    if not isinstance(model, SequenceRecommender):
        parts |= {"logits": _logits, "loss": _cross_entropy, "score": _score}
    return subject.replace(ready=probe.prepared, **parts)


def with_cross_entropy(subject: Subject) -> Subject:
    """Return the program with a cross-entropy over the whole catalogue as its loss."""
    logits = subject.logits
    assert logits is not None
    return subject.replace(loss=lambda model, batch: _over_targets(logits(model, batch), batch))


def train_selected(probe: Probe, steps: int, seed: int, *, rate: float = 1.0) -> nn.Module:
    """Train the probe's model by the program's steps; return it with its best weights.

    Best is the highest NDCG on validation users among the looks on the way.

    Args:
        probe: Of the program, whose `build_model` makes the model.
        steps: Optimiser steps.
        seed: Of weights, batches and noise.
        rate: Multiple of the program's learning rate.
    """
    model = probe.model(seed=seed)
    val = probe.data.val
    index = spread(len(val))
    best, kept = -math.inf, copy.deepcopy(model.state_dict())

    def look() -> bool:
        nonlocal best, kept
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            return True
        value = float(gains(model_ranks(probe, model, val, index)).mean()) if len(index) else 0.0
        if value > best:
            best, kept = value, copy.deepcopy(model.state_dict())
        return False

    cures.run(probe, model, cures.Arm(steps, rate=rate), seed, look)
    model.load_state_dict(kept)
    return model.eval()


def gains_on_test(probe: Probe, model: nn.Module, index: np.ndarray) -> np.ndarray:
    """Return the NDCG of a model on test users, (E,)."""
    return gains(model_ranks(probe, model, probe.data.test, index))


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch.item_ids, mask=batch.mask, times=batch.times)


def _over_targets(logits: Tensor, batch: Batch) -> Tensor:
    asked = batch.asked
    return F.cross_entropy(logits[asked][:, 1:], batch.targets[asked] - 1)


def _cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return _over_targets(_logits(model, batch), batch)


def _score(model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().last_scores(item_ids, lengths, times).float()
