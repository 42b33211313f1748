"""Ways of planting: how a change reaches one part of a program and everything downstream."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PackedSequences, PreparedData
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject

Hidden = Callable[[Tensor, Tensor], Tensor]
"""(hidden (B, S, D), mask (B, S)) -> other hidden states."""


def redeclare(subject: Subject, **settings: Any) -> Subject:
    """Return the subject with other declared settings."""
    return subject.replace(declared=dataclasses.replace(subject.declared, **settings))


def change_log(subject: Subject, change: Callable[[RawLog], RawLog]) -> Subject:
    """Let preparation see a changed log; events keep their rows."""
    prepare = subject.prepare
    return subject.replace(prepare=lambda given: prepare(change(given)))


def change_prepared(subject: Subject, change: Callable[[PreparedLog], PreparedLog]) -> Subject:
    """Plant a fault into preparation: it spoils what is prepared, now and on every other log."""
    prepare, ready, log = subject.prepare, subject.ready, subject.log

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        if ready is not None and (given is log or prepare is None):
            return change(ready)
        return change(prepare(given))

    return subject.replace(prepare=prepare_wrongly)


def sort_by(subject: Subject, wrong_times: Callable[[RawLog], np.ndarray]) -> Subject:
    """Let preparation order and split events by wrong times; the events keep their own."""
    prepare = subject.prepare

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        log = RawLog(given.user, given.item, wrong_times(given), given.rating)
        return with_times(prepare(log), given.time)

    return subject.replace(prepare=prepare_wrongly)


def with_times(prepared: PreparedLog, times: np.ndarray) -> PreparedLog:
    """Give every event the time of its row in the log."""

    def packed(sequences: PackedSequences) -> PackedSequences:
        return dataclasses.replace(sequences, times=times[sequences.rows])

    def split(held_out: EvaluationSplit) -> EvaluationSplit:
        return dataclasses.replace(
            held_out, target_times=times[held_out.target_rows], extra=packed(held_out.extra)
        )

    data = prepared.data
    return with_data(prepared, train=packed(data.train), val=split(data.val), test=split(data.test))


def with_data(prepared: PreparedLog, **fields: Any) -> PreparedLog:
    """Return prepared data with other sequences, splits or counts."""
    return dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, **fields))


def from_rows(prepared: PreparedLog, rows: np.ndarray) -> PreparedLog:
    """Number the rows of a part of a log as in the whole log.

    Args:
        prepared: Made of a log whose event i is event `rows[i]` of the whole.
        rows: (N,) int64.
    """

    def packed(sequences: PackedSequences) -> PackedSequences:
        return dataclasses.replace(sequences, rows=rows[sequences.rows])

    def split(held_out: EvaluationSplit) -> EvaluationSplit:
        return dataclasses.replace(
            held_out, target_rows=rows[held_out.target_rows], extra=packed(held_out.extra)
        )

    data = prepared.data
    return with_data(prepared, train=packed(data.train), val=split(data.val), test=split(data.test))


def change_items(prepared: PreparedLog, change: Callable[[np.ndarray], np.ndarray]) -> PreparedLog:
    """Apply a change to every encoded item id, held-out ones included; cold targets stay."""
    return with_data(
        change_held_out_items(prepared, change),
        train=replace_items(prepared.data.train, change),
    )


def change_held_out_items(
    prepared: PreparedLog, change: Callable[[np.ndarray], np.ndarray]
) -> PreparedLog:
    """Apply a change to the item ids of validation and test alone; cold targets stay."""

    def split(held_out: EvaluationSplit) -> EvaluationSplit:
        targets = np.where(held_out.targets > 0, change(held_out.targets), held_out.targets)
        extra = replace_items(held_out.extra, change)
        return dataclasses.replace(held_out, targets=targets, extra=extra)

    return with_data(prepared, val=split(prepared.data.val), test=split(prepared.data.test))


def replace_items(
    sequences: PackedSequences, change: Callable[[np.ndarray], np.ndarray]
) -> PackedSequences:
    """Return sequences whose item ids are changed."""
    items = change(np.asarray(sequences.items)).astype(np.int32)
    return dataclasses.replace(sequences, items=items)


def pack(sequences: PackedSequences, parts: list[np.ndarray]) -> PackedSequences:
    """Return one sequence per entry of `parts`: positions in the flat arrays of `sequences`."""
    index = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return PackedSequences(
        items=sequences.items[index],
        times=sequences.times[index],
        rows=sequences.rows[index],
        offsets=offsets,
    )


def change_batches(subject: Subject, change: Callable[[Batch], Batch]) -> Subject:
    """Change every training batch before it is handed on."""
    make = subject.make_batches

    def make_wrongly(prepared: PreparedLog, *when: int) -> Iterator[Batch]:
        for batch in make(prepared, *when):
            yield change(batch)

    return subject.replace(make_batches=make_wrongly)


def change_histories(subject: Subject, change: Callable[[Histories], Histories]) -> Subject:
    """Change the histories that are scored at evaluation."""
    make = subject.make_histories

    def make_wrongly(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        return change(make(data, split, index, max_len))

    return subject.replace(make_histories=make_wrongly)


def change_model(subject: Subject, change: Callable[[nn.Module], nn.Module]) -> Subject:
    """Plant a fault into every model the program builds; `change` may work in place."""
    build = subject.build_model

    def build_wrongly(num_items: int, seed: int, **settings: Any) -> nn.Module:
        return change(build(num_items, seed, **settings))

    return subject.replace(build_model=build_wrongly)


def change_weights(subject: Subject, change: Callable[[nn.Module], None]) -> Subject:
    """Change the initial weights, in place and without a graph."""

    def changed(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            change(model)
        return model

    return change_model(subject, changed)


def swap_class(module: nn.Module, wrong: type) -> None:
    """Let an existing module compute what another class computes.

    The class rather than the object is exchanged, so that copies of the module are wrong too. The
    new class keeps the name of the old one, as a wrong line in its source would.
    """
    own = type(module)
    bases = (wrong,) if issubclass(wrong, own) else (wrong, own)
    module.__class__ = type(own.__name__, bases, {"__doc__": wrong.__doc__})


def change_modules(subject: Subject, kind: type[nn.Module], wrong: type) -> Subject:
    """Swap the class of every module of a kind, if a model has any; see `swap_class`."""

    def change(model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            if isinstance(module, kind):
                swap_class(module, wrong)
        return model

    return change_model(subject, change)


def change_core(subject: Subject, wrong: type) -> Subject:
    """Put a class in front of the sequence model's own; its `super()` is the right program."""

    def change(model: nn.Module) -> nn.Module:
        swap_class(model.sequence_model, wrong)
        return model

    return change_model(subject, change)


def change_hidden(subject: Subject, change: Hidden) -> Subject:
    """Change the hidden states between sequence model and head, in whole passes and in steps."""

    class Changed:
        def encode(self, item_ids: Tensor, *, mask: Tensor | None = None, **more: Any) -> Any:
            real = item_ids != 0 if mask is None else mask
            hidden, state = super().encode(item_ids, mask=mask, **more)
            return change(hidden, real), state

        def step(self, item_ids: Tensor, state: Any, **more: Any) -> Any:
            hidden, after = super().step(item_ids, state, **more)
            real = torch.ones_like(item_ids[:, None], dtype=torch.bool)
            return change(hidden[:, None], real)[:, 0], after

    def changed(model: nn.Module) -> nn.Module:
        swap_class(model, Changed)
        return model

    return change_model(subject, changed)


def change_criterion(subject: Subject, criterion: Callable[[Tensor, Batch], Tensor]) -> Subject:
    """Train by another function of the logits."""
    logits = subject.logits

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return criterion(logits(model, batch), batch)

    return subject.replace(criterion=criterion, loss=loss)


def first_embedding(model: nn.Module) -> nn.Embedding:
    """Return the item embedding: the first one with more than one row.

    Raises:
        ValueError: The model has none, so the fault can't be planted.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings > 1:
            return module
    raise ValueError(f"{type(model).__name__} holds no nn.Embedding; this fault needs one.")
