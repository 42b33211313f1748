"""Position and time-gap features."""

from __future__ import annotations

import math

import pytest
import torch

from xlstm_model.features import (
    FIRST_EVENT_BUCKET,
    GAP_BUCKETS,
    PositionEmbedding,
    TimeGapEmbedding,
    gap_buckets,
)

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (3600, 12), (2**38, 39), (2**42, 39)],
)
def test_buckets_double(seconds, bucket):
    assert gap_buckets(torch.tensor(seconds * SECOND)).item() == bucket
    assert gap_buckets(torch.tensor(seconds * SECOND + SECOND - 1)).item() == bucket


def test_events_out_of_order_have_gap_zero():
    assert gap_buckets(torch.tensor([-5 * SECOND, -1])).tolist() == [0, 0]


def test_largest_gap_has_a_row():
    assert gap_buckets(torch.tensor(2**63 - 1)).item() == GAP_BUCKETS - 1


def test_first_event_has_its_own_row_whatever_its_gap():
    layer = TimeGapEmbedding(3)
    rows = layer(torch.tensor([0, 99 * SECOND]), torch.tensor([True, True]))
    assert torch.equal(rows, layer.table.weight[[FIRST_EVENT_BUCKET] * 2])
    assert not torch.equal(rows[0], layer(torch.tensor([0]), torch.tensor([False]))[0])


def test_sinusoids_are_those_of_the_paper():
    rows = PositionEmbedding(6, "sinusoidal", 1)(torch.tensor([0, 3]))
    expected = [f(3 / 10_000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    assert rows[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert PositionEmbedding(5, "sinusoidal", 1)(torch.tensor([7])).shape == (1, 5)
