"""Faults of sampling and loss that were written to try the questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Batch, Draws, PreparedLog, Subject
from tasks.faults.handling_faults import Plant, tried
from tasks.faults.loss_faults import change_draws
from tasks.faults.planting import change_batches, change_criterion, pack, with_data

SAMPLED = {"num_negatives": 20, "negatives_per": "user", "loss": "bpr"}


def _users(choose: Callable[[np.ndarray, int], np.ndarray]) -> Plant:
    """Make an epoch of chosen users: `choose(training events per user, epoch)`."""

    def plant(subject: Subject) -> Subject:
        make = subject.make_batches

        def make_wrongly(prepared: PreparedLog, seed: int, epoch: int) -> Iterator[Batch]:
            train = prepared.data.train
            users = choose(np.asarray(train.lengths), epoch)
            parts = [np.arange(*train.offsets[user : user + 2]) for user in users]
            for batch in make(with_data(prepared, train=pack(train, parts)), seed, epoch):
                yield batch._replace(users=torch.as_tensor(users)[batch.users])

        return subject.replace(make_batches=make_wrongly)

    return plant


def _by_length(lengths: np.ndarray, epoch: int) -> np.ndarray:
    share = lengths / lengths.sum()
    return np.random.default_rng(epoch).choice(len(lengths), len(lengths), p=share)


def _some_twice(lengths: np.ndarray, epoch: int) -> np.ndarray:
    return np.concatenate([np.arange(len(lengths)), np.arange(0, len(lengths), 10)])


def _some_never(lengths: np.ndarray, epoch: int) -> np.ndarray:
    return np.flatnonzero(np.arange(len(lengths)) % 12 != 0)


def _first_epoch_again(subject: Subject) -> Subject:
    make = subject.make_batches
    return subject.replace(make_batches=lambda prepared, seed, epoch: make(prepared, seed, 0))


def _half_catalogue(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    half = prepared.data.num_items // 2
    return drawn._replace(item_ids=(drawn.item_ids - 1) % half + 1)


def _half_of_the_batch(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    generator = torch.Generator().manual_seed(batch.seed)
    pool, item_ids = batch.targets[batch.asked], drawn.item_ids.clone()
    half = item_ids.shape[1] // 2
    chosen = torch.randint(len(pool), (len(item_ids), half), generator=generator)
    item_ids[:, :half] = pool[chosen]
    return drawn._replace(item_ids=item_ids)


def _asked(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return logits[batch.asked][:, 1:], batch.targets[batch.asked] - 1


def _over_positions(logits: Tensor, batch: Batch) -> Tensor:
    log_p = torch.nan_to_num(logits[..., 1:], neginf=0.0).log_softmax(dim=1)
    own = log_p.gather(2, (batch.targets - 1).clamp(min=0)[..., None])[..., 0]
    return -own[batch.asked].mean()


def _last_item_ignored(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _asked(logits, batch)
    return F.cross_entropy(scores, targets, ignore_index=scores.shape[1] - 1)


def _sixteen_rows(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(*_asked(logits[:16], batch.rows(slice(0, 16))))


def _smoothed_little(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(*_asked(logits, batch), label_smoothing=0.02)


def _loss(criterion: Callable[[Tensor, Batch], Tensor]) -> Plant:
    return lambda subject: change_criterion(subject, criterion)


def _told_with_padding(subject: Subject) -> Subject:
    step = subject.train_step

    def train_step(loss: Any, model: nn.Module, optimizer: Any, batch: Batch) -> Tensor:
        return step(loss, model, optimizer, batch) * float(batch.asked.float().mean())

    return subject.replace(train_step=train_step)


FAULTS = (
    tried(
        "by_length",
        "users are drawn by their length, with replacement",
        "training",
        "X9 G18",
        "pad batching",
        _users(_by_length),
    ),
    tried(
        "some_users_twice",
        "every tenth user is in an epoch twice",
        "training",
        "X9 G18 G2",
        "pad batching",
        _users(_some_twice),
        severity=0.1,
    ),
    tried(
        "some_users_never",
        "every twelfth user is never trained on",
        "training",
        "X9 G18",
        "pad batching",
        _users(_some_never),
        severity=0.08,
    ),
    tried(
        "first_epoch_again",
        "every epoch is the first one again, noise included",
        "training",
        "G18 X18 G19 G6",
        "batching stochastic regularisation pad",
        _first_epoch_again,
    ),
    tried(
        "one_seed",
        "all batches have one seed, so that noise repeats",
        "training",
        "G19 G18 X18 X17",
        "stochastic regularisation batching",
        lambda subject: change_batches(subject, lambda batch: batch._replace(seed=7)),
    ),
    tried(
        "half_catalogue",
        "negatives come from half of the catalogue",
        "training",
        "X17",
        "negatives",
        change_draws(_half_catalogue),
        needs=SAMPLED,
    ),
    tried(
        "half_of_the_batch",
        "half of the negatives are targets of the batch",
        "training",
        "X17",
        "negatives",
        change_draws(_half_of_the_batch),
        severity=0.5,
        needs=SAMPLED,
    ),
    tried(
        "over_positions",
        "the softmax runs over positions",
        "training",
        "G14 X16",
        "loss",
        _loss(_over_positions),
    ),
    tried(
        "last_item_ignored",
        "one item is ignored as if it were padding",
        "training",
        "G14 X16",
        "loss",
        _loss(_last_item_ignored),
        severity=0.02,
    ),
    tried(
        "sixteen_rows",
        "rows after the sixteenth have no loss",
        "training",
        "G14 X16",
        "loss",
        _loss(_sixteen_rows),
        severity=0.5,
    ),
    tried(
        "smoothed_little",
        "labels are smoothed by 0.02 without being declared",
        "training",
        "G14 X16",
        "loss",
        _loss(_smoothed_little),
        severity=0.02,
    ),
    tried(
        "told_with_padding",
        "the loss that is recorded is averaged over padding, too",
        "training",
        "G23 G14",
        "monitoring loss",
        _told_with_padding,
    ),
)
