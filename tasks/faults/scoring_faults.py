"""Faults of what a model keeps between calls, and of how it scores items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_model, change_modules, swap_class

Plant = Callable[[Subject], Subject]


class _EncodingKept:
    """Keeps encodings by shape and first events, and gives them again while scoring."""

    def encode(self, item_ids: Tensor, **more: Any) -> Any:
        kept = self.__dict__.setdefault("_encodings", {})
        key = (tuple(item_ids.shape), int(item_ids[:, 0].sum()))
        if self.training:
            return super().encode(item_ids, **more)
        if key not in kept:
            kept[key] = super().encode(item_ids, **more)
        return kept[key]


class _ScoresKept:
    """Keeps scores by history, whatever becomes of the weights."""

    def last_scores(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        kept = self.__dict__.setdefault("_scores", {})
        key = tuple(item_ids.flatten().tolist())
        if key not in kept:
            kept[key] = super().last_scores(item_ids, lengths, times)
        return kept[key]


class _ShrinkingTable(nn.Embedding):
    """Decays its weights at every look-up."""

    def forward(self, item_ids: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.999)
        return super().forward(item_ids)


class _NeighbourScored:
    """Scores every item by the row of the one before."""

    def item_vectors(self) -> Tensor:
        rows = super().item_vectors()
        return torch.cat([rows[:1], rows[1:].roll(1, 0)])


class _TailFilled:
    """Fills the scores of the last twentieth of the catalogue."""

    def head(self, hidden: Tensor) -> Tensor:
        scores = super().head(hidden)
        places = torch.arange(scores.shape[-1])
        return scores.masked_fill(places >= int(0.95 * len(places)), -1e9)


class _Rectified:
    """Passes scores through a ReLU."""

    def head(self, hidden: Tensor) -> Tensor:
        scores = super().head(hidden)
        return torch.where(torch.isinf(scores), scores, scores.clamp(min=0))


def _model(wrong: type) -> Plant:
    def change(model: nn.Module) -> nn.Module:
        swap_class(model, wrong)
        return model

    return lambda subject: change_model(subject, change)


def _modules(kind: type, wrong: type) -> Plant:
    return lambda subject: change_modules(subject, kind, wrong)


def _fault(id: str, title: str, expected: str, stages: str, apply: Plant, **more: Any) -> Fault:
    where = at(*stages.split())
    return Fault(id, title, "model", "class of bugs", asks(expected), where, apply, **more)


FAULTS = (
    _fault(
        "encodings_kept",
        "encodings are kept by shape and first events and given to other histories",
        "X8 G11 X13 G6 X21",
        "state inference",
        _model(_EncodingKept),
    ),
    _fault(
        "scores_kept",
        "scores are kept by history and not renewed when weights change",
        "X13 X8 G6",
        "inference state",
        _model(_ScoresKept),
    ),
    _fault(
        "table_shrinks",
        "looking items up shrinks the whole table",
        "G10 X8",
        "embedding state",
        _modules(nn.Embedding, _ShrinkingTable),
    ),
    _fault(
        "neighbour_scored",
        "the tied head scores every item by the row of the one before",
        "G13 G10 X13",
        "output embedding",
        _model(_NeighbourScored),
    ),
    _fault(
        "tail_filled",
        "the last twentieth of the catalogue scores -1e9 whatever the history",
        "G13 G14 X16",
        "output loss",
        _model(_TailFilled),
    ),
    _fault(
        "scores_rectified",
        "a ReLU follows the head",
        "G13",
        "output",
        _model(_Rectified),
    ),
)
