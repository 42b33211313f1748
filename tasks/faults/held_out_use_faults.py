"""Further faults of models, cells and steps, written apart from the others and scored once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import WITH_MLSTM, WITH_SLSTM, at
from tasks.faults.held_out_data_faults import held_out
from tasks.faults.planting import (
    change_core,
    change_hidden,
    change_model,
    change_modules,
    swap_class,
)
from tasks.faults.written_out import WrittenOutMLSTM, WrittenOutSLSTM
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence


class _StateOfRow:
    """Starts every row where the row of that number ended last."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        rows = self.__dict__.setdefault("_rows", {})
        if state is None:
            state = self.initial_state(len(x), device=x.device, dtype=x.dtype)
            for row in range(len(x)):
                for part, kept in zip(state, rows.get(row, ()), strict=False):
                    part[row] = kept
        y, after = super().forward(x, mask=mask, state=state)
        for row in range(len(x)):
            rows[row] = tuple(part[row].detach().clone() for part in after)
        return y, after


class _ShiftAcrossRows:
    """Mixes every event with the one before it in memory, which may be another user's."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        before = x.flatten(0, 1).roll(1, 0).view_as(x)
        return super().forward((x + before) / 2, mask=mask, state=state)


class _FirstItemLost(nn.Embedding):
    """Reads item 1 where item 2 is."""

    def forward(self, item_ids: Tensor) -> Tensor:
        return super().forward(torch.where(item_ids == 1, 2, item_ids))


class _Clamped:
    """Clamps scores to what a sigmoid tells apart."""

    def head(self, hidden: Tensor) -> Tensor:
        scores = super().head(hidden)
        return torch.where(torch.isinf(scores), scores, scores.clamp(-2, 2))


class _InputGateLate(WrittenOutSLSTM):
    def forward(self, gates_preact: Tensor, *, mask: Any = None, state: Any = None) -> Any:
        late = gates_preact.clone()
        late[:, 1:, 0] = gates_preact[:, :-1, 0]
        return super().forward(late, mask=mask, state=state)


class _QueriesForKeys(WrittenOutMLSTM):
    def step(self, q: Tensor, k: Tensor, *more: Any) -> Any:
        return super().step(k, q, *more)


class _OneMask(nn.Dropout):
    """Draws its mask from one seed for ever."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().forward(x)


def _suffix_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    sums = hidden.flip(1).cumsum(1).flip(1)
    counts = torch.arange(hidden.shape[1], 0, -1).to(hidden)[:, None]
    return hidden - 0.2 * sums / counts


def _clamped(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        swap_class(model, _Clamped)
        return model

    return change_model(subject, change)


def _one_group_stands(subject: Subject) -> Subject:
    own = subject.make_optimizer

    def make(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = own(model)
        optimizer.param_groups[-1]["lr"] = 0.0
        return optimizer

    return subject.replace(make_optimizer=make)


FAULTS = (
    held_out(
        "suffix_mean",
        "a part of the mean over what follows is subtracted",
        "model",
        "G11",
        at("causal"),
        lambda subject: change_hidden(subject, _suffix_mean),
    ),
    held_out(
        "state_of_row",
        "a row starts where the row of the same number ended in the call before",
        "model",
        "X8 G11",
        at("state"),
        lambda subject: change_core(subject, _StateOfRow),
        models=frozenset({"gru"}),
    ),
    held_out(
        "shift_across_rows",
        "events are mixed with the one before in memory, across the borders of rows",
        "model",
        "G11 X8",
        at("batch"),
        lambda subject: change_core(subject, _ShiftAcrossRows),
    ),
    held_out(
        "first_item_lost",
        "item 1 reads the embedding of item 2",
        "model",
        "G10 G7",
        at("embedding", "encode"),
        lambda subject: change_modules(subject, nn.Embedding, _FirstItemLost),
        models=frozenset({"gru", "xlstm"}),
    ),
    held_out(
        "scores_clamped",
        "scores are clamped to 2",
        "model",
        "G13",
        at("output"),
        _clamped,
    ),
    held_out(
        "input_gate_late",
        "the input gate of a position is that of the one before",
        "xlstm",
        "X10",
        at("cell"),
        lambda subject: change_modules(subject, SLSTMRecurrence, _InputGateLate),
        models=WITH_SLSTM,
    ),
    held_out(
        "queries_for_keys",
        "queries are written into the memory and keys read from it",
        "xlstm",
        "X10",
        at("cell"),
        lambda subject: change_modules(subject, MLSTMRecurrence, _QueriesForKeys),
        models=WITH_MLSTM,
    ),
    held_out(
        "one_group_stands",
        "the group without weight decay has a learning rate of 0",
        "training",
        "G15 X14 G10",
        at("optimiser", "learning_rate", "embedding"),
        _one_group_stands,
    ),
    held_out(
        "one_dropout_mask",
        "dropout drops the same entries in every step",
        "training",
        "G19",
        at("regularisation"),
        lambda subject: change_modules(subject, nn.Dropout, _OneMask),
    ),
)
