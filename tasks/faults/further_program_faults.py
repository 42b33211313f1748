"""Further faults of data, batches and model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import (
    change_batches,
    change_core,
    change_hidden,
    change_log,
    change_model,
    change_prepared,
    pack,
    swap_class,
    with_data,
)


def _merged_users(log: RawLog) -> RawLog:
    _, code = np.unique(log.user, return_inverse=True)
    names = np.unique(log.user)
    return dataclasses.replace(log, user=names[code // 2 * 2])


def _seconds_as_microseconds(log: RawLog) -> RawLog:
    return dataclasses.replace(log, time=log.time // 1_000_000)


def _test_is_validation(prepared: PreparedLog) -> PreparedLog:
    return with_data(prepared, test=dataclasses.replace(prepared.data.val, name="test"))


def _last_lost(prepared: PreparedLog) -> PreparedLog:
    train = prepared.data.train
    spans = zip(train.offsets[:-1], train.offsets[1:], strict=True)
    return with_data(
        prepared, train=pack(train, [np.arange(a, max(a + 1, b - 1)) for a, b in spans])
    )


def _next_user_follows(batch: Batch) -> Batch:
    """Fill padding with the start of the next row, as packing without borders does."""
    item_ids, targets, mask = (part.clone() for part in batch[:3])
    width = item_ids.shape[1]
    for row, length in enumerate(batch.lengths.tolist()):
        other = (row + 1) % len(item_ids)
        count = min(width - length, int(batch.lengths[other]))
        if count and length:
            item_ids[row, length : length + count] = batch.item_ids[other, :count]
            targets[row, length : length + count] = batch.targets[other, :count]
            mask[row, length : length + count] = True
    return batch._replace(item_ids=item_ids, targets=targets, mask=mask)


def _turned_mask(subject: Subject) -> Subject:
    def logits(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.item_ids, mask=batch.item_ids == 0, times=batch.times)

    return subject.replace(logits=logits)


class _CarriesOn:
    """Starts every pass from the state the last one ended in."""

    def forward(self, x: Tensor, *, mask: Any = None, state: Any = None) -> Any:
        kept = getattr(self, "kept", None)
        if state is None and kept is not None and kept[0].shape[0] == len(x):
            state = tuple(part.to(x.dtype) for part in kept)
        outputs, after = super().forward(x, mask=mask, state=state)
        self.kept = tuple(part.detach() for part in after)
        return outputs, after


class _LooksUpOneBefore:
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward((ids - 1).clamp(min=0))


class _BoundedHead:
    def head(self, hidden: Tensor) -> Tensor:
        return torch.tanh(super().head(hidden))


def _embedding_off_by_one(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        swap_class(model.item_embedding, _LooksUpOneBefore)
        return model

    return change_model(subject, change)


def _bounded(subject: Subject) -> Subject:
    def change(model: nn.Module) -> nn.Module:
        swap_class(model, _BoundedHead)
        return model

    return change_model(subject, change)


def _of(
    id: str, title: str, layer: Any, numbers: str, stages: frozenset[str], apply: Any, **more: Any
) -> Fault:
    source = more.pop("source", "mutation of a pipeline")
    return Fault(id, title, layer, source, asks(numbers), stages, apply, **more)


FAULTS = (
    _of(
        "users_merged",
        "every two users share an id and one sequence",
        "data",
        "X2 G7 G6 X9",
        at("order", "encode", "split"),
        lambda s: change_log(s, _merged_users),
    ),
    _of(
        "seconds_as_microseconds",
        "times in seconds are read as microseconds",
        "data",
        "X7 G3",
        at("time"),
        lambda s: change_log(s, _seconds_as_microseconds),
    ),
    _of(
        "test_is_validation",
        "the test targets are the validation targets",
        "data",
        "G2 G6 X2",
        at("split"),
        lambda s: change_prepared(s, _test_is_validation),
    ),
    _of(
        "last_event_lost",
        "every user's last training event is lost",
        "data",
        "X9 G6 X2 G2",
        at("split", "order", "pad"),
        lambda s: change_prepared(s, _last_lost),
    ),
    _of(
        "users_run_on",
        "the next user's events follow in the same row without a border",
        "data",
        "G2 X3 G3 X2",
        at("align", "batch", "format", "pad"),
        lambda s: change_batches(s, _next_user_follows),
    ),
    _of(
        "windows_cut",
        "windows lose their first position",
        "data",
        "G18 X9",
        at("pad", "batching"),
        lambda s: change_batches(s, lambda b: b.columns(slice(1, None))),
    ),
    _of(
        "mask_turned",
        "the mask marks padding instead of events",
        "model",
        "G4 X5 G11 X13 X22",
        at("pad", "inference"),
        _turned_mask,
    ),
    _of(
        "noise_at_evaluation",
        "noise is added to hidden states in every mode",
        "model",
        "G19 X8",
        at("stochastic"),
        lambda s: change_hidden(s, lambda h, m: h + 0.05 * h.std() * torch.randn_like(h)),
    ),
    _of(
        "state_runs_on",
        "a batch starts from the state the one before ended in",
        "model",
        "X8 G11",
        at("state", "batch"),
        lambda s: change_core(s, _CarriesOn),
        models=frozenset({"gru", "lstm"}),
    ),
    _of(
        "embedding_one_before",
        "every item reads the row of the one before it",
        "model",
        "G10 X4 G4 X5",
        at("embedding", "encode", "pad"),
        _embedding_off_by_one,
    ),
    _of("scores_bounded", "scores pass a tanh", "model", "G13 X16", at("output"), _bounded),
)
"""Found by changing parts of the pipeline the way people change theirs."""
