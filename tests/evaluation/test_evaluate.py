from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.data.prepared import PreparedData
from tasks.evaluation import evaluate
from tasks.evaluation.evaluate import rank_split

WEIGHTS = torch.from_numpy(np.random.default_rng(0).random((31, 31)))


def linear_score(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
    """Sum of a random vector per event: order-free, padding-blind, tie-free."""
    is_real = torch.arange(item_ids.shape[1]) < lengths[:, None]
    return (WEIGHTS[item_ids] * is_real[..., None]).sum(dim=1)


def rank_slowly(data: PreparedData, split, filter_seen: bool) -> list[int]:
    found = []
    for example, user in enumerate(split.users):
        history = [*data.train.sequence(user), *split.extra.sequence(example)]
        scores = sum(WEIGHTS[int(item)] for item in history) + torch.zeros(31)
        target = int(split.targets[example])
        rivals = [
            item for item in range(1, 31) if item == target or not (filter_seen and item in history)
        ]
        found.append(int(sum(scores[item] >= scores[target] for item in rivals)))
    return found


@pytest.mark.parametrize("name", ["val", "test"])
def test_agrees_with_a_slow_reference(random_data: PreparedData, name: str) -> None:
    split = getattr(random_data, name)
    ranked = rank_split(linear_score, random_data, split, max_len=100, filter_seen="both")
    assert ranked.ranks.tolist() == rank_slowly(random_data, split, False)
    assert ranked.seen_filtered_ranks.tolist() == rank_slowly(random_data, split, True)
    assert ranked.ranks.dtype == np.int64


def test_filter_only_gives_the_filtered_ranks(random_data: PreparedData) -> None:
    both = rank_split(linear_score, random_data, random_data.test, max_len=9, filter_seen="both")
    only = rank_split(linear_score, random_data, random_data.test, max_len=9, filter_seen="yes")
    none = rank_split(linear_score, random_data, random_data.test, max_len=9)
    assert np.array_equal(only.ranks, both.seen_filtered_ranks)
    assert np.array_equal(none.ranks, both.ranks)
    assert only.seen_filtered_ranks is None
    assert none.top_items is None


@pytest.mark.parametrize("batch_size", [1, 7, 60, 1000])
def test_batch_size_changes_nothing(random_data: PreparedData, batch_size: int) -> None:
    options = {"max_len": 20, "filter_seen": "both", "top_k": 5}
    whole = rank_split(linear_score, random_data, random_data.val, **options)
    parts = rank_split(linear_score, random_data, random_data.val, batch_size=batch_size, **options)
    for field in ("ranks", "seen_filtered_ranks", "top_items", "seen_filtered_top_items"):
        assert np.array_equal(getattr(parts, field), getattr(whole, field))


def test_batches_shrink_with_the_catalogue(
    random_data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_rows = []

    def watch(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        seen_rows.append(len(item_ids))
        return linear_score(item_ids, lengths, times)

    monkeypatch.setattr(evaluate, "MAX_SCORES_AT_ONCE", 31 * 4 + 5)
    rank_split(watch, random_data, random_data.val, max_len=5)
    assert seen_rows == [4] * 15
    monkeypatch.setattr(evaluate, "MAX_SCORES_AT_ONCE", 3)
    rank_split(watch, random_data, random_data.val, max_len=5)
    assert seen_rows[15:] == [1] * 60


def test_long_histories_are_scored_a_few_at_a_time(random_data: PreparedData, monkeypatch) -> None:
    shapes = []

    def watch(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        shapes.append((len(item_ids), len(lengths), len(times), item_ids.shape[1]))
        return linear_score(item_ids, lengths, times)

    whole = rank_split(watch, random_data, random_data.val, max_len=5)
    monkeypatch.setattr(evaluate, "MAX_EVENTS_AT_ONCE", 5 * 25 + 4)
    del shapes[:]
    parts = rank_split(watch, random_data, random_data.val, max_len=5)
    assert shapes == [(25, 25, 25, 5), (25, 25, 25, 5), (10, 10, 10, 5)]
    assert np.array_equal(whole.ranks, parts.ranks)
    monkeypatch.setattr(evaluate, "MAX_EVENTS_AT_ONCE", 3)
    del shapes[:]
    rank_split(watch, random_data, random_data.val, max_len=5)
    assert shapes == [(1, 1, 1, 5)] * 60


def test_top_lists_hold_the_best_items(random_data: PreparedData) -> None:
    ranked = rank_split(
        linear_score, random_data, random_data.test, max_len=100, filter_seen="both", top_k=3
    )
    first = ranked.top_items[:, 0] == random_data.test.targets
    assert np.array_equal(first, ranked.ranks == 1)
    for example, user in enumerate(random_data.test.users):
        history = {*random_data.train.sequence(user), *random_data.test.extra.sequence(example)}
        assert not history & set(ranked.seen_filtered_top_items[example])


def test_max_len_cuts_what_the_model_sees_but_not_the_filter(leave_one_out) -> None:
    data = leave_one_out([[1, 2, 3, 4, 5]], num_items=6)
    widths = []

    def watch(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        widths.append(item_ids.tolist())
        return torch.tensor([[0.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]])

    ranked = rank_split(watch, data, data.test, max_len=2, filter_seen="both")
    assert widths == [[[3, 4]]]
    assert ranked.ranks.tolist() == [5]
    assert ranked.seen_filtered_ranks.tolist() == [1]


def test_model_of_another_catalogue_is_refused(random_data: PreparedData) -> None:
    with pytest.raises(ValueError, match=r"scores have shape \(60, 30\)"):
        rank_split(
            lambda *batch: linear_score(*batch)[:, :30], random_data, random_data.val, max_len=5
        )


def test_no_examples_give_no_ranks(leave_one_out) -> None:
    data = leave_one_out([], num_items=3)
    ranked = rank_split(linear_score, data, data.val, max_len=5, filter_seen="both", top_k=2)
    assert ranked.ranks.shape == ranked.seen_filtered_ranks.shape == (0,)
    assert ranked.top_items.shape == (0, 2)


def test_scoring_needs_no_gradients(random_data: PreparedData) -> None:
    states = []

    def watch(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        states.append(torch.is_grad_enabled())
        return linear_score(item_ids, lengths, times)

    rank_split(watch, random_data, random_data.val, max_len=5)
    assert states == [False]
