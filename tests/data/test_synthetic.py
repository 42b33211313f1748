"""Sampling from the generator."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from tasks.data.generator import COMPONENTS, Generator, parse_item_names
from tasks.data.synthetic import build_generator, sample_log, sample_sequences, write_log

NUM_ITEMS = 30


def build(**mixture: float) -> Generator:
    return build_generator(
        num_items=NUM_ITEMS,
        num_tastes=3,
        mixture=mixture or dict.fromkeys(COMPONENTS, 1 / 6),
        zipf_exponent=1.0,
        lag=4,
        branching=3,
        seed=0,
    )


def sample(generator: Generator, num_users: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.full(num_users, length)
    return sample_sequences(generator, lengths, np.random.default_rng(7))


def test_popularity_frequencies_match() -> None:
    generator = build(popularity=1.0)
    items, _ = sample(generator, 2000, 20)
    counts = np.bincount(items.ravel(), minlength=NUM_ITEMS)
    expected = generator.popularity * items.size
    assert ((counts - expected) ** 2 / expected).sum() < 75  # chi-square, 29 degrees: p ~ 1e-5


def test_taste_frequencies_match() -> None:
    generator = build(taste=1.0)
    items, tastes = sample(generator, 3000, 10)
    assert (generator.item_taste[items] == tastes[:, None]).all()
    for taste in range(3):
        counts = np.bincount(items[tastes == taste].ravel(), minlength=NUM_ITEMS)
        own = generator.item_taste == taste
        expected = generator.taste_probability[own] * counts.sum()
        assert ((counts[own] - expected) ** 2 / expected).sum() < 40  # 9 degrees: p ~ 1e-5


@pytest.mark.parametrize("name", ["order1", "order2", "lag", "state"])
def test_successor_frequencies_match(name: str) -> None:
    generator = build(**{name: 1.0})
    items, _ = sample(generator, 3000, 12)
    n = 11
    state = np.zeros(len(items), dtype=np.int64)
    for step in range(n):
        state = generator.state_moves[items[:, step], state]
    keys = generator.key(name, items, np.full(len(items), n), state)
    table = generator.tables[name]
    choice = (table.place[items[:, n]] - keys) % NUM_ITEMS
    counts = np.bincount(choice, minlength=3)
    assert len(counts) == 3
    expected = table.weights * len(items)
    assert ((counts - expected) ** 2 / expected).sum() < 25  # 2 degrees: p ~ 4e-6


def test_keys_read_the_places_they_name() -> None:
    generator = build()
    items = np.arange(6)[None, :]
    n, state = np.array([6]), np.array([1])
    assert generator.key("order1", items, n, state)[0] == generator.order1_keys[5]
    assert generator.key("lag", items, n, state)[0] == generator.lag_keys[2]
    assert generator.key("state", items, n, state)[0] == generator.state_keys[1]
    expected = (generator.order2_keys[0][5] + generator.order2_keys[1][4]) % NUM_ITEMS
    assert generator.key("order2", items, n, state)[0] == expected


def test_shorter_users_stop_and_do_not_disturb_longer_ones() -> None:
    generator = build()
    items, _ = sample_sequences(generator, np.array([5, 3, 3, 1]), np.random.default_rng(1))
    assert items.shape == (4, 5)
    assert (items[1:3, 3:] == 0).all()
    assert (items[3, 1:] == 0).all()
    with pytest.raises(ValueError, match="must descend"):
        sample_sequences(generator, np.array([1, 2]), np.random.default_rng(1))


def read(generator: Generator, **arguments: int) -> pl.DataFrame:
    return pl.concat(sample_log(generator, **arguments))


def test_log_has_the_users_lengths_and_times_asked_for() -> None:
    log = read(build(), num_users=300, min_length=4, max_length=9, seed=3)
    by_user = log.group_by("user_id", maintain_order=True).agg(pl.len(), "timestamp")
    assert len(by_user) == 300
    assert by_user["len"].min() == 4
    assert by_user["len"].max() == 9
    assert all(np.all(np.diff(times.to_numpy()) > 0) for times in by_user["timestamp"])
    assert log["timestamp"].is_sorted()
    assert log["user_id"].min() == "u00001"
    assert log["user_id"].max() == "u00300"
    assert parse_item_names(log["item_id"].to_list(), NUM_ITEMS).max() < NUM_ITEMS


def test_log_is_reproducible_by_seed() -> None:
    arguments = {"num_users": 50, "min_length": 4, "max_length": 9}
    first, second = (read(build(), **arguments, seed=3) for _ in range(2))
    assert first.equals(second)
    assert not first.equals(read(build(), **arguments, seed=4))


def test_pieces_make_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.synthetic.CHUNK_EVENTS", 100)
    pieces = list(sample_log(build(), num_users=45, min_length=5, max_length=10, seed=0))
    assert len(pieces) == 5
    buffer = io.BytesIO()
    write_log(iter(pieces), buffer)
    buffer.seek(0)
    assert pl.read_csv(buffer).equals(pl.concat(pieces))
    assert pl.concat(pieces)["user_id"].n_unique() == 45


def test_bounds_of_length_are_checked() -> None:
    with pytest.raises(ValueError, match="min_length is 5 and max_length 4"):
        read(build(), num_users=5, min_length=5, max_length=4, seed=0)
