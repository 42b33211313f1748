"""Faults of the loss and of the negatives it is computed with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.diagnostics.subject import Batch, Draws, PreparedLog, Subject
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_criterion
from tasks.training.losses import bpr

Criterion = Callable[[Tensor, Batch], Tensor]
SAMPLED = {"loss": "bpr", "num_negatives": 20, "negatives_per": "user"}


def _real(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores (T, num_items) of the positions asked, and the column of each target."""
    return logits[batch.asked][:, 1:], batch.targets[batch.asked] - 1


def _padding_counts(logits: Tensor, batch: Batch) -> Tensor:
    scores = torch.cat([torch.zeros_like(logits[..., :1]), logits[..., 1:]], dim=-1)
    return F.cross_entropy(scores.flatten(0, 1), batch.targets.flatten())


def _softmax_twice(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _real(logits, batch)
    return F.cross_entropy(scores.softmax(dim=-1), targets)


def _sigmoid_first(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _real(logits, batch)
    return F.cross_entropy(scores.sigmoid(), targets)


def _squared_ids(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _real(logits, batch)
    ids = torch.arange(scores.shape[1], dtype=scores.dtype, device=scores.device)
    return F.mse_loss(scores.softmax(dim=-1) @ ids, targets.to(scores.dtype))


def _one_against_all(logits: Tensor, batch: Batch) -> Tensor:
    scores, targets = _real(logits, batch)
    return F.binary_cross_entropy_with_logits(
        scores, F.one_hot(targets, scores.shape[1]).to(scores.dtype)
    )


def _instead(criterion: Criterion) -> Callable[[Subject], Subject]:
    return lambda subject: change_criterion(subject, criterion)


def _loss_times(factor: Callable[[Batch], float]) -> Callable[[Subject], Subject]:
    def plant(subject: Subject) -> Subject:
        loss, criterion = subject.loss, subject.criterion
        return subject.replace(
            loss=lambda model, batch: loss(model, batch) * factor(batch),
            criterion=lambda logits, batch: criterion(logits, batch) * factor(batch),
        )

    return plant


def _pairs(score: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Subject], Subject]:
    """Train on target and drawn negatives by `score(positive, negative, valid)`."""

    def plant(subject: Subject) -> Subject:
        prepared = subject.prepared()

        def criterion(logits: Tensor, batch: Batch) -> Tensor:
            drawn = subject.sample_negatives(prepared, batch)
            rows = batch.asked.nonzero()[:, 0]
            item_ids = drawn.item_ids[rows] if len(drawn.item_ids) > 1 else drawn.item_ids
            scores, targets = logits[batch.asked], batch.targets[batch.asked]
            item_ids = item_ids.expand(len(scores), -1)
            positive = scores.gather(1, targets[:, None])[:, 0]
            valid = item_ids != targets[:, None]
            return score(positive, scores.gather(1, item_ids), valid)

        return change_criterion(subject, criterion)

    return plant


def _flipped(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    return bpr(-positive, -negative, valid)


def _no_sigmoid(positive: Tensor, negative: Tensor, valid: Tensor) -> Tensor:
    return (negative - positive[:, None])[valid].mean()


def change_draws(
    change: Callable[[Draws, Batch, PreparedLog], Draws],
) -> Callable[[Subject], Subject]:
    """Train a pairwise loss on changed negatives; the loss itself stays the declared one."""

    def plant(subject: Subject) -> Subject:
        sample, prepared = subject.sample_negatives, subject.prepared()

        def sample_wrongly(given: PreparedLog, batch: Batch) -> Draws:
            return change(sample(given, batch), batch, given)

        changed = subject.replace(sample_negatives=sample_wrongly)

        def criterion(logits: Tensor, batch: Batch) -> Tensor:
            drawn = sample_wrongly(prepared, batch)
            rows = batch.asked.nonzero()[:, 0]
            scores, targets = logits[batch.asked], batch.targets[batch.asked]
            item_ids = drawn.item_ids.expand(len(batch.targets), -1)[rows]
            valid = item_ids != targets[:, None]
            if drawn.is_positive is not None:
                valid = valid & ~drawn.is_positive[rows]
            positive = scores.gather(1, targets[:, None])[:, 0]
            return bpr(positive, scores.gather(1, item_ids), valid)

        return change_criterion(changed, criterion)

    return plant


def _with_positives(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    return drawn._replace(is_positive=None)


def _uniform(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    generator = torch.Generator().manual_seed(batch.seed)
    items = torch.randint(1, prepared.data.num_items + 1, drawn.item_ids.shape, generator=generator)
    return Draws(items, drawn.log_q)


def _frozen(drawn: Draws, batch: Batch, prepared: PreparedLog) -> Draws:
    return _uniform(drawn, batch._replace(seed=0), prepared)


FAULTS = (
    Fault(
        id="pad_in_loss",
        title="padded positions count in the loss, with padding as their target",
        layer="training",
        source="questionnaire G4, no ignored index",
        expected=asks("G4 X5 G14"),
        stages=at("loss"),
        apply=_instead(_padding_counts),
    ),
    Fault(
        id="double_softmax",
        title="cross-entropy is given probabilities instead of logits",
        layer="training",
        source="TheDeepChecker, redundant softmax",
        expected=asks("G13 G14 X16"),
        stages=at("loss"),
        apply=_instead(_softmax_twice),
    ),
    Fault(
        id="sigmoid_out",
        title="logits pass a sigmoid before the cross-entropy",
        layer="training",
        source="SASRec.pytorch 1",
        expected=asks("G13 G14 X16"),
        stages=at("loss"),
        apply=_instead(_sigmoid_first),
    ),
    Fault(
        id="mse_loss",
        title="the loss is the squared difference of item ids",
        layer="training",
        source="TheDeepChecker, wrong loss; DeepCrime, change of loss function",
        expected=asks("G14 X16"),
        stages=at("loss"),
        apply=_instead(_squared_ids),
    ),
    Fault(
        id="bce_loss",
        title="every item is a binary decision although cross-entropy was declared",
        layer="training",
        source="DeepCrime, change of loss function",
        expected=asks("G14 X16"),
        stages=at("loss"),
        apply=_instead(_one_against_all),
    ),
    Fault(
        id="loss_sum",
        title="the loss is summed over positions instead of averaged",
        layer="training",
        source="TheDeepChecker, sum reduction",
        expected=asks("G14"),
        stages=at("loss"),
        apply=_loss_times(lambda batch: batch.num_targets),
    ),
    Fault(
        id="loss_sign",
        title="the loss is negated",
        layer="training",
        source="TheDeepChecker, flipped sign",
        expected=asks("G14"),
        stages=at("loss"),
        apply=_loss_times(lambda batch: -1.0),
    ),
    Fault(
        id="bpr_sign",
        title="the pairwise loss rewards negatives above the target",
        layer="training",
        source="TheDeepChecker, flipped sign",
        expected=asks("X16 G14"),
        stages=at("loss"),
        apply=_pairs(_flipped),
        needs=SAMPLED,
    ),
    Fault(
        id="bpr_no_sigmoid",
        title="the pairwise loss is the plain difference of scores",
        layer="training",
        source="TheDeepChecker, missing activation",
        expected=asks("X16 G14"),
        stages=at("loss"),
        apply=_pairs(_no_sigmoid),
        needs=SAMPLED,
    ),
    Fault(
        id="negatives_with_positives",
        title="negatives include the user's own items although they were to be left out",
        layer="training",
        source="MBHT-KDD22 5; RecBole's sampler",
        expected=asks("X17"),
        stages=at("negatives"),
        apply=change_draws(_with_positives),
        needs={**SAMPLED, "collisions": "exclude_positives"},
    ),
    Fault(
        id="negatives_uniform",
        title="negatives are uniform although popularity was declared",
        layer="training",
        source="third-party study of GRU4Rec (Hidasi and Czapp 2023)",
        expected=asks("X17"),
        stages=at("negatives"),
        apply=change_draws(_uniform),
        needs={**SAMPLED, "negatives": "popularity"},
    ),
    Fault(
        id="negatives_frozen",
        title="every batch draws the same negatives",
        layer="training",
        source="RecBole 2077, seeds of negatives",
        expected=asks("X17"),
        stages=at("negatives"),
        apply=change_draws(_frozen),
        needs=SAMPLED,
    ),
)
