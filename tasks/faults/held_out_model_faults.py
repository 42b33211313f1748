"""Faults of models and training that were written apart from the others, to be scored once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.baselines.sasrec import TransformerBlock
from tasks.diagnostics.subject import Subject
from tasks.faults.fault import WITH_MLSTM, WITH_SLSTM, at
from tasks.faults.held_out_data_faults import held_out
from tasks.faults.layered_blocks import LayeredMLSTM
from tasks.faults.planting import (
    change_core,
    change_hidden,
    change_model,
    change_modules,
    first_embedding,
    swap_class,
)
from tasks.faults.written_out import WrittenOutMLSTM, WrittenOutSLSTM
from xlstm_model.blocks import MLSTMBlock
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.layers import FeatureNorm

Plant = Callable[[Subject], Subject]


class _StateOfLastBatch:
    """Starts a training batch where the batch before ended."""

    kept: Any = None

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        fits = self.kept is not None and len(self.kept[0]) == len(x)
        if self.training and state is None and fits:
            state = self.kept
        y, after = super().forward(x, mask=mask, state=state)
        self.kept = tuple(part.detach() for part in after) if self.training else None
        return y, after


class _NormOverTime(FeatureNorm):
    """Takes mean and deviation over positions."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            return super().forward(x)
        centred = x - x.mean(dim=1, keepdim=True)
        scale = (centred.square().mean(dim=1, keepdim=True) + self.eps).rsqrt()
        return centred * scale * (1 + self.weight)


class _UpperTriangle(TransformerBlock):
    """Attends to the present and what comes after it."""

    def forward(self, x: Tensor, cache_len: int) -> Any:
        _, cache = super().forward(x, cache_len)
        queries, keys, values = self._heads(x)
        length = x.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool).tril().T
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return self._add(x, attended), cache


class _UnscaledDropout(nn.Dropout):
    """Drops without making up for it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 - self.p) if self.training else x


class _SharedPreactivation(WrittenOutSLSTM):
    def update(self, igate: Tensor, fgate: Tensor, zgate: Tensor, ogate: Tensor, state: Any) -> Any:
        return super().update(igate, ogate, zgate, ogate, state)


class _LinearInput(WrittenOutSLSTM):
    def cell_input(self, zgate: Tensor) -> Tensor:
        return zgate


class _UnscaledKeys(WrittenOutMLSTM):
    def scaled(self, k: Tensor) -> Tensor:
        return k


class _NoSkip(LayeredMLSTM):
    def _output(self, x: Tensor, h: Tensor, mixed: Tensor, z: Tensor) -> Tensor:
        return super()._output(x, h, torch.zeros_like(mixed), z)


class _ResidualOfNorm:
    """Adds the normalised input instead of the input."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        y, after = super().forward(x, mask=mask, state=state)
        normed = self.norm(x)
        if mask is not None:
            normed = torch.where(mask[..., None], normed, 0.0)
            x = torch.where(mask[..., None], x, 0.0)
        return y - x + normed, after


def _max_norm(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        first_embedding(model).max_norm = 0.01
        return model

    return change_model(subject, change)


def _popular_only(subject: Subject) -> Subject:
    class Biased:
        def head(self, hidden: Tensor) -> Tensor:
            places = torch.arange(1, self.num_items + 2, dtype=hidden.dtype)
            return super().head(hidden) - 20 * places.log()

    def change(model: nn.Module) -> nn.Module:
        swap_class(model, Biased)
        return model

    return change_model(subject, change)


def _in_blocks(wrong: type) -> Plant:
    def plant(subject: Subject) -> Subject:
        def change(model: nn.Module) -> nn.Module:
            for block in model.sequence_model.blocks:
                swap_class(block, wrong)
            return model

        return change_model(subject, change)

    return plant


def _cell(kind: type, wrong: type) -> Plant:
    return lambda subject: change_modules(subject, kind, wrong)


def _halved_each_position(hidden: Tensor, mask: Tensor) -> Tensor:
    place = torch.arange(hidden.shape[1], dtype=hidden.dtype)
    return hidden * torch.exp(-place * math.log(2))[:, None]


FAULTS = (
    held_out(
        "state_of_last_batch",
        "in training, the state of one batch starts the next, whose rows are other users",
        "model",
        "X8 G11",
        at("state"),
        lambda subject: change_core(subject, _StateOfLastBatch),
        models=frozenset({"gru"}),
    ),
    held_out(
        "norm_over_time",
        "a norm takes its statistics over positions",
        "xlstm",
        "G11 X10",
        at("causal"),
        _cell(FeatureNorm, _NormOverTime),
        models=frozenset({"xlstm", "slstm", "mlstm"}),
    ),
    held_out(
        "upper_triangle",
        "the attention mask is transposed",
        "model",
        "G11",
        at("causal"),
        _cell(TransformerBlock, _UpperTriangle),
        models=frozenset({"sasrec"}),
    ),
    held_out(
        "dropout_unscaled",
        "dropout does not scale up what it keeps",
        "model",
        "G19",
        at("regularisation", "stochastic"),
        _cell(nn.Dropout, _UnscaledDropout),
    ),
    held_out(
        "shared_preactivation",
        "forget gate and output gate read the same pre-activation",
        "xlstm",
        "X10 G15",
        at("cell", "gradient_flow"),
        _cell(SLSTMRecurrence, _SharedPreactivation),
        models=WITH_SLSTM,
    ),
    held_out(
        "linear_cell_input",
        "the cell input has no tanh",
        "xlstm",
        "X10",
        at("cell"),
        _cell(SLSTMRecurrence, _LinearInput),
        models=WITH_SLSTM,
    ),
    held_out(
        "unscaled_keys",
        "keys are not divided by the root of their width",
        "xlstm",
        "X10",
        at("cell"),
        _cell(MLSTMRecurrence, _UnscaledKeys),
        models=WITH_MLSTM,
    ),
    held_out(
        "no_learned_skip",
        "the learned skip around the mLSTM cell is left out",
        "xlstm",
        "X10 G15",
        at("cell", "gradient_flow"),
        _cell(MLSTMBlock, _NoSkip),
        models=WITH_MLSTM,
    ),
    held_out(
        "residual_of_norm",
        "blocks add their normalised input",
        "xlstm",
        "G12 X10",
        at("residual"),
        _in_blocks(_ResidualOfNorm),
        models=frozenset({"xlstm", "slstm", "mlstm"}),
    ),
    held_out(
        "rows_renormalised",
        "looked-up embedding rows are cut to a norm of 0.01",
        "model",
        "G10",
        at("embedding"),
        _max_norm,
    ),
    held_out(
        "popular_only",
        "the head adds a fixed bias that drowns every score",
        "model",
        "G13 G10 G11",
        at("output", "embedding", "core"),
        _popular_only,
    ),
    held_out(
        "fading_output",
        "hidden states are halved at every position",
        "model",
        "X19 X22 X11",
        at("numeric", "core", "gradient_flow"),
        lambda subject: change_hidden(subject, _halved_each_position),
    ),
)
