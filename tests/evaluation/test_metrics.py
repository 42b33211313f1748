from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import RR, Qrel, ScoredDoc, Success, nDCG

from tasks.evaluation.metrics import (
    CUTOFFS,
    METRICS,
    hit_rate,
    mean_metrics,
    metric_name,
    mrr,
    ndcg,
    per_user_metrics,
)
from tasks.evaluation.ranking import rank_targets


@pytest.mark.parametrize(
    ("rank", "k", "hit", "gain", "reciprocal"),
    [
        (1, 1, 1.0, 1.0, 1.0),
        (2, 1, 0.0, 0.0, 0.0),
        (2, 5, 1.0, 0.6309297535714575, 0.5),
        (3, 5, 1.0, 0.5, 1 / 3),
        (5, 5, 1.0, 0.38685280723454163, 0.2),
        (6, 5, 0.0, 0.0, 0.0),
        (10, 10, 1.0, 0.2890648263178879, 0.1),
        (20, 20, 1.0, 0.22767024869695297, 0.05),
        (10**9, 20, 0.0, 0.0, 0.0),
    ],
)
def test_hand_computed(rank: int, k: int, hit: float, gain: float, reciprocal: float) -> None:
    ranks = np.array([rank])
    assert hit_rate(ranks, k)[0] == hit
    assert ndcg(ranks, k)[0] == pytest.approx(gain, abs=1e-15)
    assert mrr(ranks, k)[0] == pytest.approx(reciprocal, abs=1e-15)


def test_agrees_with_an_independent_library_on_random_scores() -> None:
    generator = torch.Generator().manual_seed(11)
    scores = torch.rand(200, 60, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, 60, (200,), generator=generator)
    qrels = [Qrel(str(user), str(int(item)), 1) for user, item in enumerate(targets)]
    run = [
        ScoredDoc(str(user), str(item), float(scores[user, item]))
        for user in range(200)
        for item in range(1, 60)
    ]
    ours = per_user_metrics(rank_targets(scores, targets).numpy())
    theirs = {"hit_rate": Success, "ndcg": nDCG, "mrr": RR}
    for name, measure in theirs.items():
        for k in CUTOFFS:
            found = {
                int(m.query_id): m.value for m in ir_measures.iter_calc([measure @ k], qrels, run)
            }
            # The library leaves out queries without a hit from some measures.
            expected = np.array([found.get(user, 0.0) for user in range(200)])
            np.testing.assert_allclose(ours[f"{name}_at_{k}"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("k", CUTOFFS)
def test_every_metric_is_bounded_falls_with_rank_and_grows_with_k(metric, k: int) -> None:
    ranks = np.arange(1, 60)
    values = metric(ranks, k)
    assert values[0] == 1.0
    assert (np.diff(values) <= 0).all()
    assert (values[k:] == 0).all()
    assert (metric(ranks, k + 1) >= values).all()
    assert values.dtype == np.float64


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_every_metric_takes_no_users_and_refuses_nonsense(metric) -> None:
    assert metric(np.empty(0, np.int64), 10).shape == (0,)
    with pytest.raises(ValueError, match="cut-off K is 0"):
        metric(np.array([1]), 0)
    with pytest.raises(ValueError, match="rank 0"):
        metric(np.array([3, 0]), 10)


def test_names_hold_no_character_mlflow_refuses() -> None:
    assert [metric_name(metric, 10) for metric in METRICS] == [
        "hit_rate_at_10",
        "ndcg_at_10",
        "mrr_at_10",
    ]


def test_mean_of_one_user_and_of_nobody() -> None:
    assert mean_metrics(np.array([3]))["ndcg_at_5"] == 0.5
    with pytest.raises(ValueError, match="ranks are empty"):
        mean_metrics(np.empty(0, np.int64))
