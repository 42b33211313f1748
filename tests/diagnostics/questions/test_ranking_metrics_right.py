"""X21: fires, stays quiet, holds at the limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.ranking_metrics_right import LIMITS, QUESTION, judge, measure


def own(scores, targets):
    return scores.gather(1, targets[:, None])


@pytest.mark.parametrize(
    "rank",
    [
        lambda s, t: 1 + (s[:, 1:] > own(s, t)).sum(1),
        lambda s, t: (s[:, 1:] > own(s, t)).sum(1),
        lambda s, t: (s >= own(s, t)).sum(1),
        lambda s, t: (s[:, 1:21] > own(s, t)).sum(1) + 1,
    ],
    ids=["optimistic ties", "from zero", "padding ranks", "sampled"],
)
def test_wrong_ranks_are_found(toy, rank) -> None:
    finding = answer(QUESTION, Probe(toy(rank=rank)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_random_tie_breaking_is_legitimate(toy) -> None:
    rng = np.random.default_rng(0)

    def rank(scores, targets):
        real, mine = scores[:, 1:].numpy(), own(scores, targets).numpy()
        better, equal = (real > mine).sum(1), (real == mine).sum(1)
        return torch.as_tensor(1 + better + rng.integers(0, equal))

    assert answer(QUESTION, Probe(toy(rank=rank))).verdict == "healthy"


def test_a_wrong_metric_is_found_and_named(toy) -> None:
    def metrics(ranks, cutoffs):
        return {f"ndcg_at_{k}": (ranks <= k) / np.log2(np.maximum(ranks, 2)) for k in cutoffs}

    finding = answer(QUESTION, Probe(toy(metrics=metrics)))
    assert finding.verdict == "faulty"
    assert "ndcg_at" in finding.sentence


def test_at_the_limit(healthy: Probe) -> None:
    evidence = measure(healthy)
    for value, verdict in ((1e-9, "healthy"), (1.1e-9, "faulty")):
        oracle = dataclasses.replace(evidence.oracle, metric_error=value)
        assert judge(dataclasses.replace(evidence, oracle=oracle), LIMITS).verdict == verdict


def test_a_declared_sampled_ranking_is_not_judged_by_the_full_one(healthy: Probe) -> None:
    evidence = measure(healthy)
    oracle = dataclasses.replace(evidence.oracle, wrong_ranks=1.0)
    changed = dataclasses.replace(evidence, oracle=oracle, full_ranking=False)
    assert judge(changed, LIMITS).verdict == "healthy"


def test_metrics_of_another_split_are_found(toy) -> None:
    original = toy().evaluate

    def on_validation(subject, model, split_name):
        values = original(subject, model, "val")
        return {name.replace("val/", "test/"): value for name, value in values.items()}

    finding = answer(QUESTION, Probe(toy(evaluate=on_validation)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_a_mean_of_unequal_batches_is_the_counting_s_fault(toy) -> None:
    original = toy().evaluate

    def uneven(subject, model, split_name):
        values = original(subject, model, split_name)
        return {name: 0.9 * value for name, value in values.items()}

    finding = answer(QUESTION, Probe(toy(evaluate=uneven)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_wrong_scores_behind_wrong_metrics_are_the_inference_s_fault(toy) -> None:
    score = toy().score

    def reversed_scores(model, *given):
        scores = -score(model, *given)
        scores[:, 0] = -torch.inf
        return scores

    finding = answer(QUESTION, Probe(toy(score=reversed_scores)))
    assert (finding.verdict, finding.stage) == ("faulty", "inference")


def test_metrics_of_fewer_users_than_ranks_are_a_fault_and_no_failure_of_ours(toy) -> None:
    original = toy().metrics

    def of_the_first(ranks, cutoffs):
        return {name: values[:100] for name, values in original(ranks, cutoffs).items()}

    finding = answer(QUESTION, Probe(toy(metrics=of_the_first)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_validation_is_recomputed_like_test(toy) -> None:
    original = toy().evaluate

    def sampled_validation(subject, model, split_name):
        few = subject.replace(rank=lambda s, t: 1 + (s[:, 1:6] > own(s, t)).sum(1))
        return original(few if split_name == "val" else subject, model, split_name)

    finding = answer(QUESTION, Probe(toy(evaluate=sampled_validation)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")
    assert "val/" in finding.sentence


def test_a_metric_kept_from_other_weights_is_found(toy) -> None:
    original, kept = toy().evaluate, {}

    def once(subject, model, split_name):
        key = (split_name, id(model))
        if key not in kept:
            kept[key] = original(subject, model, split_name)
        return kept[key]

    finding = answer(QUESTION, Probe(toy(evaluate=once)))
    assert (finding.verdict, finding.stage) == ("faulty", "metric")


def test_scores_kept_from_other_weights_are_the_inference_s_fault(toy) -> None:
    original = toy().score

    def cached(model, item_ids, lengths, times):
        cache = model.__dict__.setdefault("cached", {})
        key = item_ids.numpy().tobytes()
        if key not in cache:
            cache[key] = original(model, item_ids, lengths, times)
        return cache[key]

    finding = answer(QUESTION, Probe(toy(score=cached)))
    assert (finding.verdict, finding.stage) == ("faulty", "inference")
