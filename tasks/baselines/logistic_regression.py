"""Logistic regression on sparse history features, the strongest model without hidden state.

Formulation. For a training event j after history h, and an item k drawn from the popularity
distribution q, the model is

    P(j rather than k | h) = sigmoid(w . (f(h, j) - f(h, k)))

a pairwise logistic regression (conditional logit with one alternative) over the features of
`history_features`. Whatever is the same for all candidates of a history cancels, so there is no
intercept. With negatives from q, the best w . f estimates log P(j | h) - log q(j) up to a constant
of h; log q is itself the feature `log_popularity`, so adding 1 to its weight turns the result into
log P(j | h), with no approximation.

A multinomial regression with a class per item would need V times V weights and V logits per event:
for a million events and 3,400 items, 3.4 billion logits per iteration. Here ten weights are learned
whatever the size of the log.

No target helps to predict itself: tables are counted on four fifths of the users, weights fitted on
events of the others, and only then are the tables counted again on everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tasks.baselines.contract import check_histories, check_sequences
from tasks.baselines.history_features import (
    FEATURES,
    FeatureTables,
    add_seen_bonus,
    candidate_features,
    weighted_rows,
)
from tasks.baselines.model_files import read_model_files, write_model_files

HISTORY_LENGTH = 50
"""Events of a history the model reads."""
WEIGHT_SHARE = 0.2
"""Share of users whose events fit the weights."""
MAX_POSITIVES = 30_000
"""Events the weights are fitted on; drawn at random where there are more."""
NEGATIVES = 8
"""Items each of them is compared with."""
MAX_TABLE_EVENTS = 4_000_000
"""Events the tables are counted on; whole users are drawn at random where there are more."""


@dataclass(frozen=True)
class LogisticRegressionRecommender:
    """Scores items by a linear function of sparse features of (history, item).

    Attributes:
        tables: popularity and lift tables, from training sequences.
        weights: weight of every feature of `FEATURES`.
    """

    tables: FeatureTables
    weights: dict[str, float]
    name: ClassVar[str] = "logistic_regression"

    @property
    def num_items(self) -> int:
        """Real items in the vocabulary."""
        return self.tables.width - 1

    @classmethod
    def fit(
        cls,
        items: np.ndarray,
        offsets: np.ndarray,
        num_items: int,
        *,
        seed: int = 0,
        inverse_regularization: float = 1.0,
    ) -> Self:
        """Count the tables and fit the weights with scikit-learn.

        Args:
            items: int (N,), training events, ids in 1..num_items.
            offsets: int64 (U + 1,), where each user's sequence starts and ends.
            num_items: size of the vocabulary.
            seed: decides the users that fit the weights, the events and the negatives.
            inverse_regularization: scikit-learn's C, on features scaled to unit deviation.

        Raises:
            ValueError: fewer than two users with at least two events, or too few items to draw
                a negative from.
        """
        check_sequences(items, offsets, num_items)
        generator = np.random.default_rng(seed)
        items, offsets = _at_most(items, offsets, MAX_TABLE_EVENTS, generator)
        fits_weights = _choose_users(offsets, generator)
        tables = FeatureTables.count(*_subset(items, offsets, ~fits_weights), num_items)
        held_out = _subset(items, offsets, fits_weights)
        differences, scale = _pair_differences(*held_out, tables, generator)
        weights = _fit_weights(differences, scale, inverse_regularization, generator)
        return cls(FeatureTables.count(items, offsets, num_items), weights)

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Return log P(item | history) up to a constant per row (B, V); see `Recommender.score`."""
        ids, sizes = _last_events(*check_histories(item_ids, lengths, self.num_items))
        rows = weighted_rows(ids, sizes, self.weights, self.tables.width)
        scores = (rows @ self.tables.stacked).toarray()
        scores[:, 1:] += np.float32(self.weights["log_popularity"]) * self.tables.log_popularity[1:]
        add_seen_bonus(scores, ids, sizes, self.weights)
        scores[:, 0] = -np.inf
        return torch.from_numpy(scores).to(item_ids.device)

    def save(self, folder: Path) -> None:
        """Write the model, weights readable in model.json; see `Recommender.save`."""
        fields = {"num_items": self.num_items, "weights": self.weights}
        arrays = {
            "log_popularity": self.tables.log_popularity,
            "indptr": self.tables.stacked.indptr,
            "indices": self.tables.stacked.indices,
            "lifts": self.tables.stacked.data,
        }
        write_model_files(folder, self.name, fields, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the model; see `Recommender.load`."""
        fields, arrays = read_model_files(folder, cls.name)
        width = fields["num_items"] + 1
        parts = (arrays["lifts"], arrays["indices"], arrays["indptr"])
        stacked = sparse.csr_matrix(parts, shape=(3 * width, width))
        return cls(FeatureTables(arrays["log_popularity"], stacked), fields["weights"])


def _pair_differences(
    items: np.ndarray, offsets: np.ndarray, tables: FeatureTables, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return f(h, j) - f(h, k) (P, F) of drawn events and negatives, and each feature's scale."""
    has_history = np.ones(len(items), bool)
    has_history[offsets[:-1]] = False
    events = np.flatnonzero(has_history)
    if len(events) > MAX_POSITIVES:
        events = np.sort(generator.choice(events, MAX_POSITIVES, replace=False))
    starts = offsets[np.searchsorted(offsets, events, side="right") - 1]
    lengths = np.minimum(events - starts, HISTORY_LENGTH)
    columns = np.arange(int(lengths.max()))
    at = np.minimum((events - lengths)[:, None] + columns, len(items) - 1)
    item_ids = np.where(columns < lengths[:, None], items[at], 0).astype(np.int64)

    # Inverse of the cumulative distribution: exact for q = popularity, vectorised over all draws.
    cumulative = np.cumsum(np.exp(tables.log_popularity.astype(np.float64)))
    draws = generator.random((len(events), NEGATIVES)) * cumulative[-1]
    negatives = np.clip(np.searchsorted(cumulative, draws, side="right"), 1, tables.width - 1)
    candidates = np.concatenate([items[events][:, None], negatives], axis=1)
    features = candidate_features(item_ids, lengths, candidates, tables)
    differences = (features[:, :1] - features[:, 1:]).reshape(-1, len(FEATURES))
    scale = features.reshape(-1, len(FEATURES)).std(axis=0)
    return differences, np.where(scale > 0, scale, 1.0)


def _fit_weights(
    differences: np.ndarray,
    scale: np.ndarray,
    inverse_regularization: float,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Return the weight of every feature, corrected for the distribution of the negatives."""
    # Both classes must be present: half of the pairs are turned around, which changes nothing.
    is_positive = np.arange(len(differences)) % 2 == 0
    signed = np.where(is_positive[:, None], differences, -differences) / scale
    regression = LogisticRegression(C=inverse_regularization, fit_intercept=False, max_iter=1000)
    weights = regression.fit(signed, is_positive).coef_[0] / scale
    weights[FEATURES.index("log_popularity")] += 1.0
    return {name: float(weight) for name, weight in zip(FEATURES, weights, strict=True)}


def _choose_users(offsets: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return bool (U,): the users whose events fit the weights, with a target among them."""
    useful = np.flatnonzero(np.diff(offsets) >= 2)
    if len(useful) < 2:
        raise ValueError(
            f"{len(useful)} of {len(offsets) - 1} users have two or more training events; the "
            "logistic regression needs at least 2 such users: some to count on, others to fit "
            "on. Use more data, or leave it out of experiment.models."
        )
    number = min(max(1, round(WEIGHT_SHARE * len(useful))), len(useful) - 1)
    chosen = np.zeros(len(offsets) - 1, bool)
    chosen[generator.choice(useful, number, replace=False)] = True
    return chosen


def _at_most(
    items: np.ndarray, offsets: np.ndarray, limit: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return all sequences, or whole users drawn until `limit` events are reached."""
    if len(items) <= limit:
        return items, offsets
    order = generator.permutation(len(offsets) - 1)
    kept = np.zeros(len(order), bool)
    kept[order[np.cumsum(np.diff(offsets)[order]) <= limit]] = True
    return _subset(items, offsets, kept)


def _subset(
    items: np.ndarray, offsets: np.ndarray, users: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequences of the users chosen by a mask (U,), packed again."""
    lengths = np.diff(offsets)
    kept = np.asarray(items)[np.repeat(users, lengths)]
    return kept, np.concatenate([[0], np.cumsum(lengths[users])])


def _last_events(item_ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return histories cut to their last `HISTORY_LENGTH` events, right-padded with 0."""
    kept = np.minimum(lengths, HISTORY_LENGTH)
    columns = np.arange(int(kept.max(initial=0)))
    at = np.minimum((lengths - kept)[:, None] + columns, max(item_ids.shape[1] - 1, 0))
    cut = np.take_along_axis(item_ids, at, axis=1)
    return np.where(columns < kept[:, None], cut, 0), kept
