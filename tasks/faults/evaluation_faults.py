"""Faults of scoring, ranking and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.prepared import EvaluationSplit, PackedSequences
from tasks.diagnostics.subject import PreparedLog, Subject
from tasks.evaluation.metrics import per_user_metrics
from tasks.evaluation.sampled import draw_uniform_negatives, rank_among_sampled_negatives
from tasks.faults.fault import Fault, at
from tasks.faults.labels import asks
from tasks.faults.planting import pack, redeclare, with_data

EVALUATION_ROWS = 64


def _all_scores(model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
    """Scores (B, S, V) at every position of right-padded histories."""
    mask = torch.arange(item_ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        return model.eval()(item_ids, mask=mask, times=times)


def _last_column(subject: Subject) -> Subject:
    return subject.replace(score=lambda *given: _all_scores(*given)[:, -1])


def _first_column(subject: Subject) -> Subject:
    return subject.replace(score=lambda *given: _all_scores(*given)[:, 0])


def _in_training_mode(subject: Subject) -> Subject:
    def score(model: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        model.train()
        with torch.no_grad():
            return model.last_scores(item_ids, lengths, times)

    return subject.replace(score=score)


def _sampled(seed: int | None):
    def rank(scores: Tensor, targets: Tensor) -> Tensor:
        drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
        negatives = draw_uniform_negatives(targets, scores.shape[1] - 1, 20, seed=drawn)
        return rank_among_sampled_negatives(scores, targets, negatives)

    return rank


def _sampled_anew(subject: Subject) -> Subject:
    return redeclare(subject, full_ranking=False).replace(rank=_sampled(None))


def _count_only_better(scores: Tensor, targets: Tensor) -> Tensor:
    own = scores.gather(1, targets.clamp(min=0)[:, None])
    ranks = 1 + (scores[:, 1:] > own).sum(dim=1)
    return torch.where(targets > 0, ranks, scores.shape[1])


def _padding_competes(subject: Subject) -> Subject:
    score = subject.score

    def score_all(*given: Any) -> Tensor:
        scores = score(*given).clone()
        scores[:, 0] = 0.0
        return scores

    def rank(scores: Tensor, targets: Tensor) -> Tensor:
        own = scores.gather(1, targets.clamp(min=0)[:, None])
        return torch.where(targets > 0, (scores >= own).sum(dim=1), scores.shape[1])

    return subject.replace(score=score_all, rank=rank)


def _counted_from_zero(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    values = {}
    from_zero = np.asarray(ranks) - 1
    for k in cutoffs:
        hit = (from_zero <= k).astype(np.float64)
        values[f"hit_rate_at_{k}"] = hit
        values[f"ndcg_at_{k}"] = hit / np.log2(from_zero + 2)
        values[f"mrr_at_{k}"] = hit / (from_zero + 1)
    return values


def _discount_without_one(ranks: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, np.ndarray]:
    values = per_user_metrics(ranks, cutoffs)
    discount = np.log2(np.maximum(ranks, 2))
    return values | {f"ndcg_at_{k}": (np.asarray(ranks) <= k) / discount for k in cutoffs}


def _on_training_targets(subject: Subject) -> Subject:
    evaluate = subject.evaluate

    def evaluate_wrongly(given: Subject, model: nn.Module, split: str) -> dict[str, float]:
        return evaluate(given.replace(ready=_held_in(given.prepared())), model, split)

    return subject.replace(evaluate=evaluate_wrongly)


def _held_in(prepared: PreparedLog) -> PreparedLog:
    """Let the last training event of each user be the example of both splits."""
    data = prepared.data
    train = data.train
    users = np.flatnonzero(train.lengths >= 2)
    last = train.offsets[users + 1] - 1
    nothing = PackedSequences(
        train.items[:0], train.times[:0], train.rows[:0], np.zeros(len(users) + 1, dtype=np.int64)
    )

    def split(name: Any) -> EvaluationSplit:
        return EvaluationSplit(
            name=name,
            users=users,
            targets=train.items[last].astype(np.int64),
            target_times=train.times[last],
            target_rows=train.rows[last],
            extra=nothing,
        )

    shorter = train.lengths.copy()
    shorter[users] -= 1
    parts = [
        np.arange(start, start + length)
        for start, length in zip(train.offsets[:-1], shorter, strict=True)
    ]
    return with_data(prepared, train=pack(train, parts), val=split("val"), test=split("test"))


def _mean_of_batch_means(subject: Subject) -> Subject:
    def evaluate(given: Subject, model: nn.Module, split_name: str) -> dict[str, float]:
        data = given.prepared().data
        split = getattr(data, split_name)
        means: dict[str, list[float]] = {}
        for start in range(0, len(split), EVALUATION_ROWS):
            index = np.arange(start, min(start + EVALUATION_ROWS, len(split)))
            histories = given.make_histories(data, split, index, given.declared.max_seq_len)
            scores = given.score(model, *(torch.as_tensor(part) for part in histories))
            targets = torch.as_tensor(np.array(split.targets[index], dtype=np.int64))
            ranks = np.asarray(given.rank(scores, targets))
            for name, values in given.metrics(ranks, given.declared.cutoffs).items():
                means.setdefault(name, []).append(float(values.mean()))
        return {f"{split_name}/{name}": float(np.mean(value)) for name, value in means.items()}

    return subject.replace(evaluate=evaluate)


FAULTS = (
    Fault(
        id="read_last_col",
        title="scores are read at the last column, which is padding for short histories",
        layer="evaluation",
        source="last output of padded recurrences (pytorch 34036, 1176)",
        expected=asks("X13"),
        stages=at("inference"),
        apply=_last_column,
    ),
    Fault(
        id="read_first_col",
        title="scores are read after the first event of each history",
        layer="evaluation",
        source="time-reversed indexing",
        expected=asks("X13"),
        stages=at("inference"),
        apply=_first_column,
    ),
    Fault(
        id="eval_in_train_mode",
        title="the model is in training mode while it scores",
        layer="evaluation",
        source="TheDeepChecker, switch of mode",
        expected=asks("G19 G6 X13"),
        stages=at("inference"),
        apply=_in_training_mode,
    ),
    Fault(
        id="sampled_eval",
        title="targets are ranked among 20 random items although full ranking was declared",
        layer="evaluation",
        source="Hidasi and Czapp 2023; RecBole 2077",
        expected=asks("X21 G21"),
        stages=at("metric"),
        apply=lambda subject: subject.replace(rank=_sampled(0)),
    ),
    Fault(
        id="eval_negatives_change",
        title="declared sampled negatives are drawn anew at every evaluation",
        layer="evaluation",
        source="RecBole 2077",
        expected=asks("X17 X21"),
        stages=at("metric", "negatives"),
        apply=_sampled_anew,
    ),
    Fault(
        id="ties_optimistic",
        title="items with the target's own score are ranked behind it",
        layer="evaluation",
        source="Berrendorf et al. 2020, rank ambiguity",
        expected=asks("X21 G21"),
        stages=at("metric"),
        apply=lambda subject: subject.replace(rank=_count_only_better),
    ),
    Fault(
        id="rank_off_by_one",
        title="ranks are counted from 0 where the cut-off expects 1",
        layer="evaluation",
        source="off-by-one in ranking",
        expected=asks("X21"),
        stages=at("metric"),
        apply=lambda subject: subject.replace(metrics=_counted_from_zero),
    ),
    Fault(
        id="ndcg_wrong",
        title="the discount of NDCG is log2(rank) instead of log2(rank + 1)",
        layer="evaluation",
        source="off-by-one in the discount",
        expected=asks("X21"),
        stages=at("metric"),
        apply=lambda subject: subject.replace(metrics=_discount_without_one),
    ),
    Fault(
        id="pad_rankable",
        title="padding competes with the items",
        layer="evaluation",
        source="RecTools pull request 187",
        expected=asks("X21 G4"),
        stages=at("metric"),
        apply=_padding_competes,
    ),
    Fault(
        id="eval_on_train",
        title="the reported metric is computed on training targets",
        layer="evaluation",
        source="DeepCrime, removed validation set",
        expected=asks("G21 X21 G6"),
        stages=at("metric", "inference", "split"),
        apply=_on_training_targets,
    ),
    Fault(
        id="mean_of_batch_means",
        title="metrics are averaged over batches of unequal size",
        layer="evaluation",
        source="mean of means in evaluation loops",
        expected=asks("X21"),
        stages=at("metric"),
        apply=_mean_of_batch_means,
    ),
)
