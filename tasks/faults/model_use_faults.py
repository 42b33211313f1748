"""Faults of the sequence model: how far it looks, where its state starts and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.baselines.sasrec import SASRecCore, TransformerBlock
from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import (
    change_core,
    change_hidden,
    change_modules,
)

Plant = Callable[[Subject], Subject]
GRU = frozenset({"gru"})
SASREC = frozenset({"sasrec"})


class _ChunksApart:
    """Runs in chunks of four positions, each from an empty state."""

    detached = False

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        outputs = []
        for start in range(0, x.shape[1], 4):
            part = slice(start, start + 4)
            given = None if mask is None else mask[:, part]
            y, after = super().forward(x[:, part], mask=given, state=state)
            state = tuple(t.detach() for t in after) if self.detached else None
            outputs.append(y)
        return torch.cat(outputs, dim=1), after


class _ChunksDetached(_ChunksApart):
    detached = True


class _RowPairs:
    """Averages every two neighbouring rows."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        y, after = super().forward(x, mask=mask, state=state)
        other = torch.arange(len(y)) ^ 1
        return (y + y[torch.where(other < len(y), other, other ^ 1)]) / 2, after


class _StateAfterPadding:
    """Returns the state that has read the padding as well."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        y, _ = super().forward(x, mask=mask, state=state)
        return y, super().forward(x, mask=None, state=state)[1]


class _OneAhead(TransformerBlock):
    """Attends to one later position."""

    def forward(self, x: Tensor, cache_len: int) -> Any:
        _, cache = super().forward(x, cache_len)
        queries, keys, values = self._heads(x)
        visible = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(1)
        return self._add(
            x, F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        ), cache


class _ToItself(TransformerBlock):
    """Attends to its own position alone."""

    def forward(self, x: Tensor, cache_len: int) -> Any:
        _, cache = super().forward(x, cache_len)
        return self._add(x, self._heads(x)[2]), cache


class _FromTheEnd(SASRecCore):
    """Counts positions from the last column."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        if state is None:
            used = self.positions.weight[: x.shape[1]]
            x = x + used.flip(0) - used
        return super().forward(x, mask=mask, state=state)


class _SecondLayerUnused:
    """Computes both layers and returns the result of the first."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        _, after = super().forward(x, mask=mask, state=state)
        y = self.layers[0](x)[0]
        return (y if mask is None else torch.where(mask[..., None], y, 0.0)), after


def _core(wrong: type) -> Plant:
    return lambda subject: change_core(subject, wrong)


def _modules(kind: type, wrong: type) -> Plant:
    return lambda subject: change_modules(subject, kind, wrong)


def _over_length(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden / mask.sum(dim=1)[:, None, None].clamp(min=1)


def _grows(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden * (2.0 ** torch.arange(hidden.shape[1]).to(hidden))[:, None]


def _smoothed(hidden: Tensor, mask: Tensor) -> Tensor:
    later = torch.cat([hidden[:, 1:], hidden[:, -1:]], dim=1)
    return 0.99 * hidden + 0.01 * later


def _fault(id: str, title: str, expected: str, stages: str, apply: Plant, **more: Any) -> Fault:
    where = at(*stages.split())
    return Fault(id, title, "model", "class of bugs", asks(expected), where, apply, **more)


FAULTS = (
    _fault(
        "state_in_chunks",
        "the state starts anew every four positions",
        "G11 X8 X10 X11",
        "state core cell",
        _core(_ChunksApart),
        models=GRU,
    ),
    _fault(
        "gradient_in_chunks",
        "the gradient is cut every four positions",
        "G15 X11",
        "gradient_flow",
        _core(_ChunksDetached),
        models=GRU,
    ),
    _fault(
        "rows_in_pairs",
        "neighbouring rows share their outputs",
        "G11 X8",
        "batch",
        _core(_RowPairs),
    ),
    _fault(
        "state_after_padding",
        "the returned state has taken in the padding",
        "X8 G4 X5",
        "state pad",
        _core(_StateAfterPadding),
        models=frozenset({"gru", "slstm", "mlstm"}),
    ),
    _fault(
        "mask_one_ahead",
        "the attention mask lets one later position through",
        "G11",
        "causal",
        _modules(TransformerBlock, _OneAhead),
        models=SASREC,
    ),
    _fault(
        "attends_to_itself",
        "attention sees its own position alone",
        "G11 G15 X11",
        "core gradient_flow",
        _modules(TransformerBlock, _ToItself),
        models=SASREC,
    ),
    _fault(
        "positions_from_the_end",
        "positions are counted from the last column",
        "G4 X5 G11 X13 X8",
        "pad causal state",
        _core(_FromTheEnd),
        models=SASREC,
    ),
    _fault(
        "second_layer_unused",
        "the result of the first of two layers is returned",
        "G15 G11",
        "core gradient_flow",
        _core(_SecondLayerUnused),
        models=GRU,
        needs={"num_layers": 2},
    ),
    _fault(
        "over_length",
        "hidden states are divided by the number of events of the whole row",
        "G11 G4 X5",
        "causal pad",
        lambda subject: change_hidden(subject, _over_length),
    ),
    _fault(
        "grows_by_position",
        "hidden states double at every position",
        "X19 X22 X11",
        "numeric core",
        lambda subject: change_hidden(subject, _grows),
        models=GRU,
    ),
    _fault(
        "smoothed_ahead",
        "a hundredth of the next hidden state is mixed into each",
        "G11",
        "causal",
        lambda subject: change_hidden(subject, _smoothed),
        severity=0.01,
    ),
)
