"""Further faults of histories, scores and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, Histories, PreparedData
from tasks.diagnostics.subject import Subject
from tasks.evaluation.metrics import per_user_metrics
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_histories, pack, with_data


def _row_by_row(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Subject], Subject]:
    """Change the real events of every history that is scored."""

    def changed(given: Histories) -> Histories:
        item_ids, lengths = np.zeros_like(given.item_ids), given.lengths.copy()
        for row, length in enumerate(given.lengths):
            events = change(given.item_ids[row, :length])
            item_ids[row, : len(events)] = events
            lengths[row] = len(events)
        return Histories(item_ids, lengths, given.times)

    return lambda subject: change_histories(subject, changed)


def _oldest_events(subject: Subject) -> Subject:
    make = subject.make_histories

    def make_wrongly(
        data: PreparedData, split: EvaluationSplit, index: np.ndarray, max_len: int
    ) -> Histories:
        whole = make(data, split, index, 10_000)
        lengths = np.minimum(whole.lengths, max_len)
        return Histories(whole.item_ids[:, :max_len], lengths, whole.times[:, :max_len])

    return subject.replace(make_histories=make_wrongly)


def _other_scores(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Subject], Subject]:
    """Change what scoring gives: `change(scores (B, V), item_ids (B, S))`."""

    def plant(subject: Subject) -> Subject:
        score = subject.score

        def score_wrongly(model: nn.Module, item_ids: Tensor, *more: Tensor) -> Tensor:
            return change(score(model, item_ids, *more).clone(), item_ids)

        return subject.replace(score=score_wrongly)

    return plant


def _without_seen(scores: Tensor, item_ids: Tensor) -> Tensor:
    return scores.scatter(1, item_ids.long(), -torch.inf)


def _rounded(scores: Tensor, item_ids: Tensor) -> Tensor:
    return scores.to(torch.bfloat16).to(scores.dtype)


def _id_as_tie_break(scores: Tensor, item_ids: Tensor) -> Tensor:
    return scores - torch.arange(scores.shape[1]) * 0.01


def _other_metrics(name: str, value: Callable[[np.ndarray, int], np.ndarray]) -> Any:
    def metrics(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
        own = {f"{name}_at_{k}": value(np.asarray(ranks), k).astype(float) for k in cutoffs}
        return per_user_metrics(ranks, cutoffs) | own

    return lambda subject: subject.replace(metrics=metrics)


def _first_users_only(subject: Subject) -> Subject:
    evaluate = subject.evaluate

    def evaluate_wrongly(given: Subject, model: nn.Module, name: str) -> dict[str, float]:
        data = given.prepared().data
        split = getattr(data, name)
        few = max(1, len(split) // 2)
        extra = pack(
            split.extra,
            [np.arange(*split.extra.offsets[i : i + 2]) for i in range(few)],
        )
        arrays = {
            n: np.asarray(getattr(split, n))[:few]
            for n in ("users", "targets", "target_times", "target_rows")
        }
        part = dataclasses.replace(split, extra=extra, **arrays)
        return evaluate(
            given.replace(ready=with_data(given.prepared(), **{name: part})), model, name
        )

    return subject.replace(evaluate=evaluate_wrongly)


def _of(
    id: str, title: str, layer: Any, numbers: str, stages: frozenset[str], apply: Any, **more: Any
) -> Fault:
    source = more.pop("source", "mutation of a pipeline")
    return Fault(id, title, layer, source, asks(numbers), stages, apply, **more)


FAULTS = (
    _of(
        "history_without_last",
        "the last event is missing from the history that is scored",
        "evaluation",
        "X13 G6 X9 G2",
        at("inference", "split"),
        _row_by_row(lambda e: e[:-1] if len(e) > 1 else e),
    ),
    _of(
        "history_reversed",
        "histories are scored from the latest event to the first",
        "evaluation",
        "X13 G6 X9",
        at("inference", "order"),
        _row_by_row(lambda e: e[::-1]),
    ),
    _of(
        "history_renamed",
        "another id map is used for the histories that are scored",
        "evaluation",
        "X13 G6 G7",
        at("inference", "encode"),
        _row_by_row(lambda e: e % max(int(e.max()), 1) + 1),
    ),
    _of(
        "oldest_events_kept",
        "long histories keep their oldest events",
        "evaluation",
        "X13 G6 X9",
        at("inference", "pad"),
        _oldest_events,
        needs={"max_seq_len": 6},
    ),
    _of(
        "seen_items_removed",
        "items of the history are left out although nothing declares it",
        "evaluation",
        "X13 G6 X21",
        at("inference", "metric"),
        _other_scores(_without_seen),
    ),
    _of(
        "scores_rounded",
        "scores are rounded to bfloat16 before they are ranked",
        "evaluation",
        "X13 G6 X21",
        at("inference", "metric", "numeric"),
        _other_scores(_rounded),
    ),
    _of(
        "id_in_the_score",
        "small ids, which are the popular items, get a bonus",
        "evaluation",
        "X13 G6 X21",
        at("inference", "metric"),
        _other_scores(_id_as_tie_break),
    ),
    _of(
        "ndcg_natural_log",
        "NDCG takes the natural logarithm",
        "evaluation",
        "X21",
        at("metric"),
        _other_metrics("ndcg", lambda r, k: (r <= k) / np.log(r + 1)),
    ),
    _of(
        "hit_rate_one_more",
        "the hit rate at K counts rank K + 1",
        "evaluation",
        "X21",
        at("metric"),
        _other_metrics("hit_rate", lambda r, k: r <= k + 1),
    ),
    _of(
        "mrr_without_cutoff",
        "the reciprocal rank has no cut-off",
        "evaluation",
        "X21",
        at("metric"),
        _other_metrics("mrr", lambda r, k: 1 / r),
    ),
    _of(
        "half_the_users",
        "the metric is that of the first half of the users",
        "evaluation",
        "X21",
        at("metric", "inference", "split"),
        _first_users_only,
    ),
)
"""Found by changing parts of the pipeline the way people change theirs."""
