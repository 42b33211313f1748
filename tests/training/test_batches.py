"""Windows cover every pair once; batches are padded, masked and repeatable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tasks.training.batches import WindowBatches, batch_seed, cut_windows, shuffle_windows

OFFSETS = np.array([0, 5, 5, 6, 8, 30, 47])


def make(offsets=OFFSETS, items=None, **options):
    items = np.arange(1, offsets[-1] + 1) if items is None else items
    given = {"max_seq_len": 4, "batch_size": 3, "seed": 7} | options
    return WindowBatches(items, offsets, **given)


def pairs_of(batches, epoch):
    """(user, input, target) of every real position of an epoch."""
    found = []
    for batch in batches.epoch(epoch):
        users = batch.users[:, None].expand_as(batch.mask)[batch.mask].tolist()
        inputs, targets = batch.item_ids[batch.mask], batch.targets[batch.mask]
        found += zip(users, inputs.tolist(), targets.tolist(), strict=True)
    return found


@pytest.mark.parametrize(
    ("lengths", "max_seq_len", "expected"),
    [
        ([3], 4, [(0, 2, 0)]),
        ([5], 4, [(0, 4, 0)]),
        ([6], 4, [(0, 4, 0), (4, 1, 0)]),
        ([0, 1, 2], 4, [(1, 1, 2)]),
        ([9, 3], 4, [(0, 4, 0), (4, 4, 0), (9, 2, 1)]),
        ([4], 1, [(0, 1, 0), (1, 1, 0), (2, 1, 0)]),
    ],
)
def test_cuts_at_multiples_without_a_generator(lengths, max_seq_len, expected):
    plan = cut_windows(np.r_[0, np.cumsum(lengths)], max_seq_len)
    assert list(zip(plan.starts, plan.lengths, plan.users, strict=True)) == expected


@pytest.mark.parametrize("epoch", range(5))
@pytest.mark.parametrize("max_seq_len", [1, 4, 7, 100])
def test_every_pair_exactly_once_per_epoch(epoch, max_seq_len):
    batches = make(max_seq_len=max_seq_len)
    expected = [
        (user, item, item + 1)
        for user in range(len(OFFSETS) - 1)
        for item in range(OFFSETS[user] + 1, OFFSETS[user + 1])
    ]
    assert Counter(pairs_of(batches, epoch)) == Counter(expected)
    assert all(batch.item_ids.shape[1] <= max_seq_len for batch in batches.epoch(epoch))


def test_first_cut_of_long_sequences_is_uniform_and_short_ones_stay_whole():
    offsets = np.array([0, 31, 35])
    firsts = Counter()
    for epoch in range(2000):
        plan = cut_windows(offsets, 4, np.random.default_rng(epoch))
        firsts[int(plan.lengths[0])] += 1
        assert plan.lengths[-1] == 3
    assert set(firsts) == {1, 2, 3, 4}
    assert all(abs(count - 500) < 120 for count in firsts.values())  # 6 standard deviations


def test_padding_mask_positions_and_counts_agree():
    batches = list(make().epoch(0))
    assert any((~batch.mask).any() for batch in batches)
    for batch in batches:
        lengths = batch.mask.sum(1)
        assert torch.equal(batch.mask, torch.arange(batch.mask.shape[1]) < lengths[:, None])
        assert (batch.item_ids[~batch.mask] == 0).all()
        assert (batch.targets[~batch.mask] == 0).all()
        assert (batch.item_ids[batch.mask] > 0).all()
        assert torch.equal(batch.positions, batch.mask.flatten().nonzero()[:, 0])
        assert batch.num_targets == int(lengths.sum())
        assert batch.item_ids.shape[1] == int(lengths.max())


def test_times_belong_to_their_inputs():
    items = np.arange(1, OFFSETS[-1] + 1)
    for batch in make(items=items, times=items * 1000).epoch(1):
        assert torch.equal(batch.times, batch.item_ids * 1000)
    assert next(make().epoch(0)).times is None


def test_repeatable_and_new_every_epoch():
    first, again, other_seed = make(), make(), make(seed=8)
    assert pairs_of(first, 0) == pairs_of(again, 0)
    assert pairs_of(first, 0) != pairs_of(first, 1)
    assert pairs_of(first, 0) != pairs_of(other_seed, 0)
    assert pairs_of(first, 0) == pairs_of(again, 0)  # going back is no different


@pytest.mark.parametrize("start", [1, 3])
def test_starting_in_the_middle_gives_the_rest(start):
    whole = list(make().epoch(2))
    rest = list(make().epoch(2, start=start))
    assert len(rest) == len(whole) - start == make().num_batches(2) - start
    for batch, expected in zip(rest, whole[start:], strict=True):
        assert torch.equal(batch.item_ids, expected.item_ids)
        assert batch.seed == expected.seed


def test_seeds_differ_between_batches_epochs_and_runs():
    seeds = {batch_seed(*key) for key in np.ndindex(5, 20, 20)}
    assert len(seeds) == 5 * 20 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_bucketing_saves_padding_and_loses_nothing():
    rng = np.random.default_rng(0)
    offsets = np.r_[0, np.cumsum(rng.integers(2, 40, size=300))]
    plain = make(offsets, max_seq_len=20, batch_size=16)
    bucketed = make(offsets, max_seq_len=20, batch_size=16, bucket_batches=8)
    slots = [sum(b.mask.numel() for b in source.epoch(0)) for source in (plain, bucketed)]
    assert slots[1] < 0.8 * slots[0]
    assert Counter(pairs_of(plain, 0)) == Counter(pairs_of(bucketed, 0))
    sizes = [len(batch.users) for batch in bucketed.epoch(0)]
    assert set(sizes[:-1]) == {16}


def test_shuffle_keeps_windows_together():
    plan = cut_windows(OFFSETS, 4)
    shuffled = shuffle_windows(plan, 3, np.random.default_rng(0))
    rows = {tuple(row) for row in zip(plan.starts, plan.lengths, plan.users, strict=True)}
    assert rows == set(zip(shuffled.starts, shuffled.lengths, shuffled.users, strict=True))
    assert shuffled.starts.tolist() != plan.starts.tolist()


def test_read_only_input_is_accepted_and_skipped_users_counted():
    items = np.arange(1, OFFSETS[-1] + 1, dtype=np.int32)
    items.flags.writeable = False
    batches = make(items=items)
    assert batches.num_skipped == 2
    assert next(batches.epoch(0)).item_ids.dtype == torch.int64


def test_no_pair_at_all_is_refused():
    with pytest.raises(ValueError, match="none of the 2 training sequences has two events"):
        make(np.array([0, 1, 2]))


@pytest.mark.parametrize("name", ["max_seq_len", "batch_size", "bucket_batches"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; expected at least 1"):
        make(**{name: 0})
