"""Faults of evaluation that were written apart from the others, to be scored once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PackedSequences, PreparedData
from tasks.diagnostics.subject import Subject
from tasks.faults.fault import at
from tasks.faults.held_out_data_faults import held_out
from tasks.faults.planting import with_data


def _no_recent_events(subject: Subject) -> Subject:
    make = subject.make_histories

    def make_stale(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        extra = split.extra
        none = PackedSequences(
            extra.items[:0], extra.times[:0], extra.rows[:0], np.zeros_like(extra.offsets)
        )
        return make(data, dataclasses.replace(split, extra=none), index, max_len)

    return subject.replace(make_histories=make_stale)


def _lower_is_better(scores: Tensor, targets: Tensor) -> Tensor:
    own = scores.gather(1, targets.clamp(min=0)[:, None])
    ranks = (scores[:, 1:] <= own).sum(dim=1)
    return torch.where(targets > 0, ranks, scores.shape[1])


def _history_filtered(subject: Subject) -> Subject:
    score = subject.score

    def score_unseen(model: nn.Module, item_ids: Tensor, *more: Any) -> Tensor:
        return score(model, item_ids, *more).clone().scatter(1, item_ids, -torch.inf)

    return subject.replace(score=score_unseen)


def _natural_logarithm(subject: Subject) -> Subject:
    metrics = subject.metrics

    def measure(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
        values = metrics(ranks, cutoffs)
        return values | {
            f"ndcg_at_{k}": (np.asarray(ranks) <= k) / np.log1p(ranks) for k in cutoffs
        }

    return subject.replace(metrics=measure)


def _without_cold_targets(subject: Subject) -> Subject:
    evaluate = subject.evaluate

    def known(split: EvaluationSplit) -> EvaluationSplit:
        kept = np.flatnonzero(split.targets > 0)
        extra, first = split.extra, split.extra.offsets
        parts = [np.arange(first[e], first[e + 1]) for e in kept]
        index = np.concatenate(parts).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return EvaluationSplit(
            split.name,
            *(getattr(split, f)[kept] for f in ("users", "targets", "target_times", "target_rows")),
            extra=PackedSequences(
                extra.items[index], extra.times[index], extra.rows[index], offsets
            ),
        )

    def evaluate_wrongly(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
        prepared = given.prepared()
        data = prepared.data
        kept = with_data(prepared, val=known(data.val), test=known(data.test))
        return evaluate(given.replace(ready=kept), model, name)

    return subject.replace(evaluate=evaluate_wrongly)


def _first_hundred(subject: Subject) -> Subject:
    metrics = subject.metrics

    def measure(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
        return metrics(np.asarray(ranks)[:100], cutoffs)

    return subject.replace(metrics=measure)


def _cached_by_shape(subject: Subject) -> Subject:
    score = subject.score

    def score_once(model: nn.Module, item_ids: Tensor, *more: Any) -> Tensor:
        cache = model.__dict__.setdefault("cached_scores", {})
        key = tuple(item_ids.shape)
        if key not in cache:
            cache[key] = score(model, item_ids, *more)
        return cache[key]

    return subject.replace(score=score_once)


def _few_digits(subject: Subject) -> Subject:
    score = subject.score
    return subject.replace(score=lambda *given: score(*given).bfloat16().float())


FAULTS = (
    held_out(
        "stale_history",
        "histories at test lack the events that came after training",
        "evaluation",
        "G6 X13 X9",
        at("inference", "pad", "split"),
        _no_recent_events,
    ),
    held_out(
        "lower_is_better",
        "scores are sorted as if they were distances",
        "evaluation",
        "X21",
        at("metric"),
        lambda subject: subject.replace(rank=_lower_is_better),
    ),
    held_out(
        "history_filtered",
        "items of the history can't be recommended, targets among them",
        "evaluation",
        "X21 X13 G6",
        at("metric", "inference"),
        _history_filtered,
        needs={"repeat_share": 0.3},
    ),
    held_out(
        "natural_logarithm",
        "NDCG is discounted by the natural logarithm",
        "evaluation",
        "X21",
        at("metric"),
        _natural_logarithm,
    ),
    held_out(
        "without_cold_targets",
        "cold targets are left out of the metric although they were declared misses",
        "evaluation",
        "X21",
        at("metric"),
        _without_cold_targets,
        needs={"vocabulary": "train", "cold_items": 12},
    ),
    held_out(
        "first_hundred_users",
        "the metric is the mean over the first hundred users",
        "evaluation",
        "X21",
        at("metric"),
        _first_hundred,
    ),
    held_out(
        "cached_by_shape",
        "scores are cached by the shape of the batch",
        "evaluation",
        "X13 G6 X21",
        at("inference"),
        _cached_by_shape,
    ),
    held_out(
        "few_digits",
        "scores are rounded to eight bits before ranking",
        "evaluation",
        "X13 X21 G6",
        at("inference", "metric"),
        _few_digits,
    ),
)
