"""The blocks of the `xlstm` package (2.0.6) inside this project's recommender.

Embedding, head, bias of repeats, windows, loss, optimiser and schedule are this project's own; the
blocks alone differ. mLSTM runs in the package's parallel form, sLSTM in its plain PyTorch form.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.fitting import Fitted, Rules
from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.training.assemble import PLAN_SETTINGS, build_objective
from tasks.training.batches import WindowBatches
from tasks.training.checkpoint import CheckpointFolder
from tasks.training.loop import train
from tasks.training.models import NeuralModel
from tasks.training.observer import EpochReport, Observer
from tasks.training.plan import TrainingPlan
from tasks.training.step import TrainingParts
from tasks.training.validation import FullRankingValidator


class PackageCore(nn.Module):
    """The package's block stack as a sequence model for whole sequences, padded right.

    Args:
        embedding_dim: Width.
        pattern: Blocks, ``m`` or ``s``.
        num_heads: Of every block.
        max_seq_len: Longest sequence.
        dropout: The package's own.
    """

    def __init__(
        self, embedding_dim: int, pattern: str, num_heads: int, max_seq_len: int, dropout: float
    ) -> None:
        from xlstm import (
            mLSTMBlockConfig,
            mLSTMLayerConfig,
            sLSTMBlockConfig,
            sLSTMLayerConfig,
            xLSTMBlockStack,
            xLSTMBlockStackConfig,
        )

        super().__init__()
        self.embedding_dim = embedding_dim
        mlstm = mLSTMBlockConfig(mlstm=mLSTMLayerConfig(num_heads=num_heads))
        layer = sLSTMLayerConfig(backend="vanilla", num_heads=num_heads, dtype="float32")
        self.stack = xLSTMBlockStack(
            xLSTMBlockStackConfig(
                mlstm_block=mlstm if "m" in pattern else None,
                slstm_block=sLSTMBlockConfig(slstm=layer) if "s" in pattern else None,
                context_length=max_seq_len,
                num_blocks=len(pattern),
                embedding_dim=embedding_dim,
                dropout=dropout,
                slstm_at=[place for place, kind in enumerate(pattern) if kind == "s"],
            )
        )
        self.stack.reset_parameters()

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, Any]:
        """Map (B, S, D) to (B, S, D), zero at padding; no state is kept.

        Raises:
            ValueError: A state is given.
        """
        if state is not None and state != ():
            raise ValueError("state is given; expected none, as whole sequences are mapped here.")
        y = self.stack(x)
        return (y if mask is None else y * mask[..., None]), ()


def build_core(settings: dict[str, Any], max_seq_len: int) -> PackageCore:
    """The blocks of drawn settings."""
    pattern = settings["pattern"] * settings["num_layers"]
    width, heads = settings["embedding_dim"], settings["num_heads"]
    return PackageCore(width, pattern, heads, max_seq_len, settings["dropout"])


SPEC = NeuralModel("xlstm-package", build_core)


class _TimeUpError(Exception):
    """The training was cut off."""


class _Watch(Observer):
    """Passes epochs on and keeps the best weights in case the training is cut off."""

    def __init__(self, model: nn.Module, rules: Rules, tell: Callable[[int, float], None]) -> None:
        self._model, self._rules, self._tell = model, rules, tell
        self.best, self.best_epoch, self.epochs = -math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}

    def on_epoch(self, report: EpochReport) -> None:
        """Keep, tell, and stop when the time is up."""
        self.epochs, value = report.epoch, report.values["val/ndcg_at_10"]
        if value > self.best:
            self.best, self.best_epoch = value, report.epoch
            self.weights = {n: t.detach().clone() for n, t in self._model.state_dict().items()}
        self._tell(report.epoch, value)
        if time.time() >= self._rules.until:
            raise _TimeUpError


class XLSTMTraining:
    """A training by this project's own loop; `fit` takes the place of `fitting.fit`."""

    def __init__(
        self,
        name: str,
        data: PreparedData,
        shared: dict[str, Any],
        settings: dict[str, Any],
        seed: int,
        device: torch.device,
    ) -> None:
        given, length = shared["train"], shared["max_seq_len"]
        section = {"embedding_dim": shared["width"], "repeat_bias": True, **settings}
        model = SPEC.build(data.num_items, section, max_seq_len=length, seed=seed).model
        self.model = model.to(device)
        self._parts = TrainingParts(
            model=self.model,
            objective=build_objective(data, given, device),
            batches=WindowBatches(
                data.train.items,
                data.train.offsets,
                max_seq_len=length,
                batch_size=shared["batch_size"],
                seed=seed,
                device=device,
            ),
            validate=FullRankingValidator(data, data.val, length),
        )
        self._plan = TrainingPlan(
            learning_rate=section["learning_rate"],
            weight_decay=section["weight_decay"],
            seed=seed,
            **{key: given[key] for key in PLAN_SETTINGS},
        )

    def fit(
        self,
        rules: Rules,
        tell: Callable[[int, float], None],
        checkpoints: Path | None = None,
    ) -> Fitted:
        """Train until the rules end it and leave the best weights.

        Args:
            rules: When to stop; epochs and patience are the preset's.
            tell: Told of every epoch.
            checkpoints: Where a training that was cut off goes on from.
        """
        start = time.time()
        watch = _Watch(self.model, rules, tell)
        try:
            kept = CheckpointFolder(checkpoints) if checkpoints else None
            record = train(self._parts, self._plan, observers=[watch], checkpoints=kept)
        except _TimeUpError:
            self.model.load_state_dict(watch.weights)
            seconds = round(time.time() - start, 1)
            return Fitted(watch.best, watch.best_epoch, watch.epochs, "time", seconds)
        return Fitted(
            record.best_value,
            record.best_epoch,
            record.num_epochs,
            record.stop_reason,
            round(record.wall_seconds, 1),
        )

    def scorer(self, split: EvaluationSplit) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Scores of histories."""
        return self.model.last_scores
