"""Build the generator of the synthetic log from settings, and sample logs from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from tasks.data.generator import (
    COMPONENTS,
    TABLES,
    Component,
    Generator,
    item_names,
    make_table,
)

START_SECONDS = 1_577_836_800
"""2020-01-01: the first possible event."""

START_SPAN_SECONDS = 180 * 86_400
MEAN_GAP_SECONDS = 86_400.0
CHUNK_EVENTS = 4_000_000
NUM_GROUPS = 4
"""Groups the second-last item counts as in order2: few, so that V * 4 contexts can be learnt."""


def build_generator(
    *,
    num_items: int,
    num_tastes: int,
    mixture: Mapping[Component, float],
    zipf_exponent: float,
    lag: int,
    branching: int,
    num_states: int = 2,
    seed: int,
) -> Generator:
    """Draw the tables of a generator.

    Popularity and taste follow Zipf's law over a random ranking; every item belongs to one taste.
    The successors of a context have weights proportional to 1, 1/2, ... 1/branching. The context
    of order2 is the last item together with one of four groups of the item before it. With two
    states the state is the parity of the events on a random half of the items; with more, items
    apply random permutations of the states, which do not commute.

    Args:
        num_items: Items, at least ``num_tastes`` and ``branching``.
        num_tastes: Latent classes of users, equally likely.
        mixture: Weight per component, not negative, sum 1; components left out have 0.
        zipf_exponent: Skew of popularity, 0 is flat.
        lag: Distance of the long-range dependency, at least 1.
        branching: Successors per context.
        num_states: States of the state component, at least 2.
        seed: Seed; the same arguments give the same generator.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(num_items, num_tastes, mixture, lag, branching, num_states)
    rng = np.random.default_rng([seed, 0])
    ranking = rng.permutation(num_items)
    zipf = np.arange(1, num_items + 1, dtype=np.float64) ** -zipf_exponent
    popularity = np.empty(num_items)
    popularity[ranking] = zipf / zipf.sum()
    item_taste = np.empty(num_items, dtype=np.int64)
    item_taste[rng.permutation(num_items)] = np.arange(num_items) % num_tastes
    mass = np.bincount(item_taste, weights=popularity, minlength=num_tastes)
    weights = 1.0 / np.arange(1, branching + 1)
    weights /= weights.sum()
    tables = {name: make_table(rng.permutation(num_items), weights) for name in TABLES}
    groups = rng.integers(0, NUM_GROUPS, num_items)
    moves = np.stack([np.arange(num_states), *_draw_moves(rng, num_states)])
    return Generator(
        mixture=np.array([mixture.get(name, 0.0) for name in COMPONENTS], dtype=np.float64),
        popularity=popularity,
        taste_prior=np.full(num_tastes, 1.0 / num_tastes),
        item_taste=item_taste,
        taste_probability=popularity / mass[item_taste],
        tables=tables,
        order1_keys=rng.permutation(num_items),
        order2_keys=np.stack([rng.permutation(num_items), groups * (num_items // NUM_GROUPS)]),
        lag_keys=rng.permutation(num_items),
        lag=lag,
        state_moves=moves[rng.integers(0, len(moves), num_items)],
        state_keys=np.arange(num_states) * num_items // num_states,
    )


def _draw_moves(rng: np.random.Generator, num_states: int) -> list[np.ndarray]:
    """Permutations items apply to the state, besides leaving it: a cycle and a swap."""
    cycle = np.roll(np.arange(num_states), -1)
    if num_states == 2:
        return [cycle]
    swap = np.arange(num_states)
    swap[:2] = [1, 0]
    shuffle = rng.permutation(num_states)
    return [shuffle[permutation[np.argsort(shuffle)]] for permutation in (cycle, swap)]


def _check(
    num_items: int,
    num_tastes: int,
    mixture: Mapping[Component, float],
    lag: int,
    branching: int,
    num_states: int,
) -> None:
    where = "Change it under data.synthetic in params.yaml."
    for name, value, low, high in (
        ("num_items", num_items, 2, 10_000_000),
        ("num_tastes", num_tastes, 1, num_items),
        ("branching", branching, 1, num_items),
        ("lag", lag, 1, 1_000_000),
        ("num_states", num_states, 2, 64),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low} to {high}. {where}")
    unknown = sorted(set(mixture) - set(COMPONENTS))
    if unknown:
        raise ValueError(f"mixture names {unknown[0]!r}; expected some of {', '.join(COMPONENTS)}.")
    total = sum(mixture.values())
    if min(mixture.values(), default=0.0) < 0 or abs(total - 1.0) > 1e-6:
        raise ValueError(
            f"mixture is {dict(mixture)} with sum {total:g}; expected weights of 0 or more that "
            f"sum to 1. {where}"
        )


def sample_sequences(
    generator: Generator, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sample one sequence per user; time steps in a loop, users at once.

    Args:
        generator: The distribution.
        lengths: (U,) int64, events per user, descending.
        rng: Source of randomness.

    Returns:
        Items (U, S) int64, 0 beyond a user's length, and the users' tastes (U,) int64.

    Raises:
        ValueError: Lengths do not descend.
    """
    num_users, longest = len(lengths), int(lengths.max(initial=0))
    if np.any(np.diff(lengths) > 0):
        raise ValueError("lengths must descend. Sort the users by length first.")
    tastes = rng.choice(generator.num_tastes, size=num_users, p=generator.taste_prior)
    by_taste = _TasteSampler(generator)
    popular_edges = np.cumsum(generator.popularity)
    items = np.zeros((num_users, longest), dtype=np.int64)
    state = np.zeros(num_users, dtype=np.int64)
    for n in range(longest):
        active = int(np.searchsorted(-lengths, -n, side="left"))
        weights = generator.mixture_at(np.array([n]))[0]
        component = np.searchsorted(np.cumsum(weights), rng.random(active), side="right")
        component = np.minimum(component, np.flatnonzero(weights)[-1])
        uniform = rng.random(active)
        drawn = np.empty(active, dtype=np.int64)
        for position, name in enumerate(COMPONENTS):
            chosen = np.flatnonzero(component == position)
            if len(chosen) == 0:
                continue
            if name == "popularity":
                drawn[chosen] = _draw_by_edges(popular_edges, uniform[chosen])
            elif name == "taste":
                drawn[chosen] = by_taste.draw(tastes[chosen], uniform[chosen])
            else:
                at = np.full(len(chosen), n)
                keys = generator.key(name, items[chosen], at, state[chosen])
                drawn[chosen] = generator.tables[name].draw(keys, uniform[chosen])
        items[:active, n] = drawn
        state[:active] = generator.state_moves[drawn, state[:active]]
    return items, tastes


def _draw_by_edges(edges: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    drawn = np.searchsorted(edges, uniform * edges[-1], side="right")
    return np.minimum(drawn, len(edges) - 1)


class _TasteSampler:
    """Draws items by taste: items grouped by taste, one cumulative curve for all groups."""

    def __init__(self, generator: Generator) -> None:
        self._order = np.argsort(generator.item_taste, kind="stable")
        probability = generator.taste_probability[self._order]
        sizes = np.bincount(generator.item_taste, minlength=generator.num_tastes)
        ends = np.cumsum(sizes)
        self._starts, self._ends = ends - sizes, ends
        self._edges = np.cumsum(probability)

    def draw(self, tastes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        low = np.where(self._starts[tastes] > 0, self._edges[self._starts[tastes] - 1], 0.0)
        high = self._edges[self._ends[tastes] - 1]
        place = np.searchsorted(self._edges, low + uniform * (high - low), side="right")
        return self._order[np.clip(place, self._starts[tastes], self._ends[tastes] - 1)]


def sample_log(
    generator: Generator, *, num_users: int, min_length: int, max_length: int, seed: int
) -> Iterator[pl.DataFrame]:
    """Sample a log in pieces of about four million events.

    Lengths are uniform between the two bounds and, like the times, independent of the items; a
    user's times are whole seconds and strictly increase. Within a piece, rows are in order of
    time.

    Args:
        generator: The distribution.
        num_users: Users.
        min_length: Shortest history, at least 1.
        max_length: Longest history.
        seed: Seed; each piece depends on it and its own number alone.

    Yields:
        Tables with ``user_id``, ``item_id`` (text) and ``timestamp`` (int64, seconds).

    Raises:
        ValueError: Not 1 <= ``min_length`` <= ``max_length``.
    """
    if not 1 <= min_length <= max_length:
        raise ValueError(
            f"min_length is {min_length} and max_length {max_length}; expected "
            "1 <= min_length <= max_length. Set them under data.synthetic in params.yaml."
        )
    names = pl.Series(item_names(generator.num_items))
    width = max(5, len(str(num_users)))
    per_chunk = max(1, CHUNK_EVENTS // max_length)
    for chunk, first in enumerate(range(0, num_users, per_chunk)):
        rng = np.random.default_rng([seed, 1, chunk])
        count = min(per_chunk, num_users - first)
        lengths = -np.sort(-rng.integers(min_length, max_length + 1, count))
        items, _ = sample_sequences(generator, lengths, rng)
        users = first + rng.permutation(count)
        real = np.arange(items.shape[1]) < lengths[:, None]
        times = _sample_times(rng, real)
        frame = pl.DataFrame(
            {
                "user": np.repeat(users, lengths),
                "item": items[real],
                "timestamp": times[real],
            }
        )
        frame = frame.sort("timestamp", "user")
        yield frame.select(
            user_id=pl.format("u{}", (pl.col("user") + 1).cast(pl.String).str.zfill(width)),
            item_id=names.gather(frame["item"]),
            timestamp="timestamp",
        )


def _sample_times(rng: np.random.Generator, real: np.ndarray) -> np.ndarray:
    """Return whole seconds (U, S) that strictly increase along each row."""
    gaps = 1 + np.floor(rng.exponential(MEAN_GAP_SECONDS, real.shape)).astype(np.int64)
    start = START_SECONDS + rng.integers(0, START_SPAN_SECONDS, (len(real), 1))
    return start + np.cumsum(gaps, axis=1)


def write_log(pieces: Iterator[pl.DataFrame], file: IO[bytes]) -> None:
    """Write pieces of a log as one CSV with a header."""
    for number, piece in enumerate(pieces):
        piece.write_csv(file, include_header=number == 0)


def write_synthetic(folder: Path, settings: Mapping[str, int | float]) -> Generator:
    """Build a generator from flat settings and write its log as ``synthetic.csv`` into a folder.

    Args:
        folder: Existing folder.
        settings: The fields of ``data.synthetic``.

    Returns:
        The generator.
    """
    generator = build_generator(
        num_items=int(settings["num_items"]),
        num_tastes=int(settings["num_tastes"]),
        mixture={name: float(settings[f"{name}_weight"]) for name in COMPONENTS},
        zipf_exponent=float(settings["zipf_exponent"]),
        lag=int(settings["lag"]),
        branching=int(settings["branching"]),
        num_states=int(settings.get("num_states", 2)),
        seed=int(settings["seed"]),
    )
    pieces = sample_log(
        generator,
        num_users=int(settings["num_users"]),
        min_length=int(settings["min_length"]),
        max_length=int(settings["max_length"]),
        seed=int(settings["seed"]),
    )
    with (folder / "synthetic.csv").open("wb") as file:
        write_log(pieces, file)
    return generator
