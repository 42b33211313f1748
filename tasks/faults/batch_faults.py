"""Faults of the batches: alignment of targets, padding, lengths, number formats, times."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import Histories
from tasks.diagnostics.subject import Batch, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_batches, change_histories


def _own_input(batch: Batch) -> Batch:
    return batch._replace(targets=batch.item_ids.clone())


def _two_ahead(batch: Batch) -> Batch:
    later = torch.zeros_like(batch.targets)
    later[:, :-1] = batch.targets[:, 1:]
    return batch._replace(targets=later)


def _previous(batch: Batch) -> Batch:
    return batch._replace(item_ids=batch.targets, targets=batch.item_ids)


def _other_rows(batch: Batch) -> Batch:
    generator = torch.Generator().manual_seed(batch.seed % 2**32)
    order = torch.randperm(len(batch.targets), generator=generator)
    return batch._replace(targets=batch.targets[order])


def _empty_rows(batch: Batch) -> Batch:
    more = max(1, len(batch.item_ids) // 3)

    def longer(part: Tensor | None) -> Tensor | None:
        return None if part is None else torch.cat([part, torch.zeros_like(part[:more])])

    return batch._replace(
        item_ids=longer(batch.item_ids),
        targets=longer(batch.targets),
        mask=longer(batch.mask),
        times=longer(batch.times),
        users=longer(batch.users),
    )


def _first_three(subject: Subject) -> Subject:
    shorter = change_batches(subject, lambda batch: batch.columns(slice(0, 3)))
    return change_histories(
        shorter,
        lambda given: Histories(
            given.item_ids[:, :3], np.minimum(given.lengths, 3), given.times[:, :3]
        ),
    )


def _pushed_right(part: Tensor, lengths: Tensor) -> Tensor:
    """Move each row's real entries to the end of the row."""
    width = part.shape[1]
    source = torch.arange(width) - (width - lengths)[:, None]
    return part.gather(1, source.clamp(min=0)) * (source >= 0)


def _left_padded(batch: Batch) -> Batch:
    # The mask still says that the first `length` positions are real.
    lengths = batch.lengths
    times = None if batch.times is None else _pushed_right(batch.times, lengths)
    return batch._replace(
        item_ids=_pushed_right(batch.item_ids, lengths),
        targets=_pushed_right(batch.targets, lengths),
        times=times,
    )


def _left_padded_histories(given: Histories) -> Histories:
    lengths = torch.as_tensor(given.lengths)
    item_ids, times = (
        _pushed_right(torch.as_tensor(part), lengths).numpy() for part in (given[0], given[2])
    )
    return Histories(item_ids, given.lengths, times)


def _through_float(batch: Batch) -> Batch:
    rounded = (batch.item_ids.double() / 10).round() * 10
    highest = int(batch.item_ids.max())
    item_ids = rounded.long().clamp(min=1, max=highest) * batch.mask
    return batch._replace(item_ids=item_ids)


def _late_times(subject: Subject) -> Subject:
    def late(times: Tensor) -> Tensor:
        return torch.cat([times[:, :1], times[:, :-1]], dim=1)

    moved = change_batches(
        subject, lambda batch: batch._replace(times=late(batch.times) * batch.mask)
    )
    return change_histories(
        moved,
        lambda given: given._replace(
            times=late(torch.as_tensor(given.times)).numpy() * (given.item_ids != 0)
        ),
    )


def _on_batches(change):
    return lambda subject: change_batches(subject, change)


FAULTS = (
    Fault(
        id="no_shift",
        title="the target of each position is its own input",
        layer="data",
        source="off-by-one of inputs and targets; questionnaire X3",
        expected=asks("X3 G2"),
        stages=at("align"),
        apply=_on_batches(_own_input),
        quiet=asks("X2"),
    ),
    Fault(
        id="shift_two",
        title="the target of each position is the event after the next",
        layer="data",
        source="off-by-one of inputs and targets (DEForm)",
        expected=asks("X3 G2"),
        stages=at("align"),
        apply=_on_batches(_two_ahead),
        quiet=asks("X2"),
    ),
    Fault(
        id="target_prev",
        title="inputs and targets are exchanged: the previous event is predicted",
        layer="data",
        source="off-by-one of inputs and targets",
        expected=asks("X3 G2"),
        stages=at("align"),
        apply=_on_batches(_previous),
        quiet=asks("X2"),
    ),
    Fault(
        id="labels_permuted",
        title="the rows of the targets are shuffled within each batch",
        layer="data",
        source="TheDeepChecker, unaligned labels",
        expected=asks("G2 X3"),
        stages=at("align"),
        apply=_on_batches(_other_rows),
    ),
    Fault(
        id="all_padding_rows",
        title="a quarter of the rows of every batch hold nothing but padding",
        layer="data",
        source="questionnaire X6",
        expected=asks("X6 G4"),
        stages=at("pad"),
        apply=_on_batches(_empty_rows),
    ),
    Fault(
        id="truncate3",
        title="only the first three positions of each row are kept",
        layer="data",
        source="DEForm, truncation",
        expected=asks("X9 G18"),
        stages=at("pad"),
        apply=_first_three,
    ),
    Fault(
        id="left_pad_train",
        title="training rows are padded left while their mask expects padding right",
        layer="data",
        source="questionnaire X5",
        expected=asks("X5 G4 G6"),
        stages=at("pad"),
        apply=_on_batches(_left_padded),
    ),
    Fault(
        id="left_pad_eval",
        title="histories are padded left while scoring expects padding right",
        layer="evaluation",
        source="questionnaire X5",
        expected=asks("G4 G6 X5 X13"),
        stages=at("pad", "inference"),
        apply=lambda subject: change_histories(subject, _left_padded_histories),
    ),
    Fault(
        id="int_as_float",
        title="item ids pass through a float column and are rounded to tens",
        layer="data",
        source="UMLAUT, check of input types",
        expected=asks("G3"),
        stages=at("format"),
        apply=_on_batches(_through_float),
    ),
    Fault(
        id="times_one_late",
        title="every event carries the time of the event before it",
        layer="data",
        source="a shifted feature column",
        expected=asks("X7 X12"),
        stages=at("time"),
        apply=_late_times,
        needs={"time_gaps": True},
    ),
)
