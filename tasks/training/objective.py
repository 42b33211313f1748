"""Training objectives: from hidden states and a batch to one scalar loss.

An objective is any callable ``(model, hidden (B, S, D), batch) -> scalar``. Those here choose the
valid positions, score them with the model's head and apply a function of `tasks.training.losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.training import losses
from tasks.training.batches import Batch
from tasks.training.fused_cross_entropy import linear_cross_entropy, seen_cross_entropy
from tasks.training.negatives import NegativeSampler
from xlstm_model import SequenceRecommender
from xlstm_model.kernels import cross_entropy as kernels
from xlstm_model.repeats import Repeats, repeats_at

Objective = Callable[[nn.Module, Tensor, Batch], Tensor]
SampledLoss = Literal["sampled_softmax", "bpr", "bce", "gbce"]


def valid_positions(hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states (T, D) and targets (T,) of the real positions, row by row."""
    flat = hidden.flatten(0, 1).index_select(0, batch.positions)
    return flat, batch.targets.flatten().index_select(0, batch.positions)


@dataclass(frozen=True)
class FullCrossEntropy:
    """Cross-entropy over the whole catalogue.

    A recommender with its own linear head goes through the fused computation, which keeps no
    (T, V) matrix; any other head is called as it is.

    Attributes:
        label_smoothing: share of the target probability spread evenly over the real items.
    """

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, hidden: Tensor, batch: Batch) -> Tensor:
        states, targets = valid_positions(hidden, batch)
        if not has_linear_head(model):
            scores = model.head(states)
            if (repeats := find_repeats(model, batch)) is not None:
                scores = model.repeats(scores, repeats)
            return losses.cross_entropy(scores, targets, self.label_smoothing)
        query, vectors = query_and_vectors(model, states)
        loss = self._by_kernels(model, query, vectors, targets, batch)
        if loss is not None:
            return loss
        repeats = find_repeats(model, batch)
        additions = None if repeats is None else model.repeats.additions(repeats)
        return linear_cross_entropy(
            query,
            vectors,
            None,
            targets,
            label_smoothing=self.label_smoothing,
            additions=additions,
        )

    def takes_padding(self, model: nn.Module, width: int) -> bool:
        """Whether kernels for GPUs can make all of the loss, where a target of 0 counts nothing.

        Args:
            model: on the training device.
            width: columns of the widest batch.
        """
        repeats = getattr(model, "repeats", None)
        drops = repeats is not None and repeats.window < width
        if self.label_smoothing != 0.0 or drops or not has_linear_head(model):
            return False
        weight = model.item_vectors()
        return weight.is_cuda and kernels.fits(weight, weight, None)

    def _by_kernels(
        self, model: nn.Module, query: Tensor, vectors: Tensor, targets: Tensor, batch: Batch
    ) -> Tensor | None:
        """The loss where kernels for GPUs can make all of it."""
        if not self.takes_padding(model, batch.item_ids.shape[1]):
            return None
        repeats = getattr(model, "repeats", None)
        added = None if repeats is None else repeats.bias
        return seen_cross_entropy(query, vectors, targets, batch.item_ids, batch.positions, added)


@dataclass(frozen=True)
class SampledObjective:
    """A loss over the target and drawn negatives.

    Attributes:
        loss: which of `tasks.training.losses`.
        sampler: where negatives come from; seeded by each batch's own seed.
        calibration: t of gBCE; other losses don't read it.
    """

    loss: SampledLoss
    sampler: NegativeSampler
    calibration: float = 0.75

    def __call__(self, model: nn.Module, hidden: Tensor, batch: Batch) -> Tensor:
        drawn = self.sampler.draw(batch.users, batch.seed)
        states, targets = valid_positions(hidden, batch)
        positive = model.score_items(states, targets[:, None])[:, 0]
        if len(drawn.item_ids) == 1:
            negative = model.score_items(states, drawn.item_ids[0])
            item_ids, log_q = drawn.item_ids, drawn.log_q
        else:
            rows = batch.positions // batch.mask.shape[1]
            negative = _scores_by_row(model, hidden, batch, drawn.item_ids)
            item_ids, log_q = drawn.item_ids[rows], drawn.log_q[rows]
        if (repeats := find_repeats(model, batch)) is not None:
            positive = positive + model.repeats.of_items(targets[:, None], repeats)[:, 0]
            negative = negative + model.repeats.of_items(item_ids, repeats)
        valid = self._valid(item_ids, targets, drawn.is_positive, batch)
        if self.loss == "sampled_softmax":
            return losses.sampled_softmax(positive, negative, log_q, valid)
        if self.loss == "bpr":
            return losses.bpr(positive, negative, valid)
        if self.loss == "bce":
            return losses.bce(positive, negative, valid)
        beta = losses.gbce_beta(
            self.sampler.num_negatives, self.sampler.num_items, self.calibration
        )
        return losses.gbce(positive, negative, valid, beta=beta)

    def _valid(
        self, item_ids: Tensor, targets: Tensor, is_positive: Tensor | None, batch: Batch
    ) -> Tensor:
        """Which negatives count, bool (T, K)."""
        if self.sampler.collisions == "allow":
            return torch.ones_like(item_ids, dtype=torch.bool).expand(len(targets), -1)
        valid = item_ids != targets[:, None]
        if is_positive is not None:
            valid = valid & ~is_positive[batch.positions // batch.mask.shape[1]]
        return valid


def find_repeats(model: nn.Module, batch: Batch) -> Repeats | None:
    """What each real position's history holds; None for a model without a repeat bias."""
    bias = getattr(model, "repeats", None)
    if bias is None:
        return None
    rows = batch.positions // batch.mask.shape[1]
    columns = batch.positions % batch.mask.shape[1]
    return repeats_at(batch.item_ids, rows, columns, bias.window)


def _scores_by_row(model: nn.Module, hidden: Tensor, batch: Batch, item_ids: Tensor) -> Tensor:
    """Scores (T, K) where each row of the batch has its own K items: one product per row."""
    vectors = F.embedding(item_ids, model.item_vectors())
    query = hidden
    if model.normalize:
        vectors = F.normalize(vectors, dim=-1)
        query = F.normalize(hidden, dim=-1) / model.temperature
    scores = query @ vectors.transpose(1, 2)  # (B, S, K)
    return scores.flatten(0, 1).index_select(0, batch.positions)


def has_linear_head(model: nn.Module) -> bool:
    """Whether the head is `SequenceRecommender`'s own: a product with the item vectors."""
    own = getattr(type(model), "head", None) is SequenceRecommender.head
    return own and "head" not in vars(model)


def query_and_vectors(model: SequenceRecommender, states: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of the head's scores: (T, D) and (V, D)."""
    vectors = model.item_vectors()
    if model.normalize:
        return F.normalize(states, dim=-1) / model.temperature, F.normalize(vectors, dim=-1)
    return states, vectors


def make_objective(
    loss: Literal["cross_entropy"] | SampledLoss,
    *,
    label_smoothing: float = 0.0,
    sampler: NegativeSampler | None = None,
    calibration: float = 0.75,
) -> FullCrossEntropy | SampledObjective:
    """The objective of that name.

    Raises:
        ValueError: a sampled loss without a sampler, or an unknown name.
    """
    if loss == "cross_entropy":
        return FullCrossEntropy(label_smoothing)
    if loss not in ("sampled_softmax", "bpr", "bce", "gbce"):
        raise ValueError(
            f"loss is {loss!r}; expected cross_entropy, sampled_softmax, bpr, bce or gbce."
        )
    if sampler is None:
        raise ValueError(f"loss is {loss!r} without a sampler; expected a NegativeSampler.")
    return SampledObjective(loss, sampler, calibration)
