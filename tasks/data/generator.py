"""The model behind the synthetic log: a mixture whose every probability can be written down.

The next item of a user with taste z and history x_1 .. x_n is drawn from

    p(j | x_1 .. x_n, z) = sum_c w_c(n) p_c(j | x_1 .. x_n, z)

with the components popularity, taste, order1 (keyed by x_n), order2 (by x_n and x_{n-1}), lag (by
x_{n+1-lag}) and state (by a finite state that every item of the history moves). A component whose
context does not exist yet gets no weight and the others share it in proportion. The taste is drawn
once per user and never shown.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tasks.data.readers.errors import DataError

Component = Literal["popularity", "taste", "order1", "order2", "lag", "state"]
COMPONENTS: tuple[Component, ...] = ("popularity", "taste", "order1", "order2", "lag", "state")
FORMAT_VERSION = 1
TABLES = ("order1", "order2", "lag", "state")


@dataclass(frozen=True)
class SuccessorTable:
    """A few likely items for every key.

    Key ``a`` leads to the items ``ring[(a + k) % V]`` with probability ``weights[k]``.

    Attributes:
        ring: (V,) int64, a permutation of the items.
        place: (V,) int64, its inverse.
        weights: (b,) float64, descending, sum 1; b is at most V.
    """

    ring: np.ndarray
    place: np.ndarray
    weights: np.ndarray

    def draw(self, keys: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return one item per key, (N,) int64, from uniform numbers in [0, 1)."""
        edges = np.cumsum(self.weights)
        choice = np.minimum(np.searchsorted(edges, uniform, side="right"), len(edges) - 1)
        return self.ring[(keys + choice) % len(self.ring)]

    def probability(self, keys: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the probability of each item under its key, (N,) float64."""
        choice = (self.place[items] - keys) % len(self.ring)
        inside = choice < len(self.weights)
        return np.where(inside, self.weights[np.where(inside, choice, 0)], 0.0)

    def add_to(self, scores: np.ndarray, keys: np.ndarray, factor: np.ndarray) -> None:
        """Add ``factor[n]`` times the distribution under ``keys[n]`` to row n of (N, V) scores."""
        rows = np.arange(len(keys))
        for step, weight in enumerate(self.weights):
            scores[rows, self.ring[(keys + step) % len(self.ring)]] += factor * weight


@dataclass(frozen=True)
class Generator:
    """Everything that defines the synthetic log's distribution.

    Items are 0 .. V - 1 here; the log names them ``i0001`` ... (``item_names``).

    Attributes:
        mixture: (6,) float64, weights in the order of ``COMPONENTS``, sum 1.
        popularity: (V,) float64, sum 1.
        taste_prior: (K,) float64, sum 1.
        item_taste: (V,) int64, the taste an item belongs to.
        taste_probability: (V,) float64, probability of an item under its own taste; 0 under others.
        tables: Successors of order1, order2, lag and state.
        order1_keys: (V,) int64, key of the last item.
        order2_keys: (2, V) int64; key (order2_keys[0][x_n] + order2_keys[1][x_{n-1}]) % V.
        lag_keys: (V,) int64, key of the item ``lag`` places before the next one.
        lag: Distance of the long-range dependency; 1 is the last item.
        state_moves: (V, M) int64; item j moves state s to state_moves[j, s]. State 0 comes first.
        state_keys: (M,) int64, key of each state.
    """

    mixture: np.ndarray
    popularity: np.ndarray
    taste_prior: np.ndarray
    item_taste: np.ndarray
    taste_probability: np.ndarray
    tables: dict[str, SuccessorTable]
    order1_keys: np.ndarray
    order2_keys: np.ndarray
    lag_keys: np.ndarray
    lag: int
    state_moves: np.ndarray
    state_keys: np.ndarray

    @property
    def num_items(self) -> int:
        """Items in the catalogue."""
        return len(self.popularity)

    @property
    def num_tastes(self) -> int:
        """Latent classes of users."""
        return len(self.taste_prior)

    def mixture_at(self, lengths: np.ndarray) -> np.ndarray:
        """Return the weights after histories of these lengths, (N, 6) float64.

        Where no component with weight has its context yet, popularity stands in.
        """
        lengths = np.asarray(lengths)
        needed = np.array([0, 0, 1, 2, self.lag, 0])
        weights = np.where(lengths[:, None] >= needed, self.mixture, 0.0)
        total = weights.sum(axis=1)
        weights[total == 0, 0] = 1.0
        return weights / weights.sum(axis=1, keepdims=True)

    def key(self, table: str, items: np.ndarray, n: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the keys of a table after the first n events of each row.

        Args:
            table: One of ``TABLES``.
            items: (B, S) items, right-padded with anything in range.
            n: (B,) events in the history; where it is too short the key has no meaning.
            state: (B,) state after the history.
        """
        if table == "state":
            return self.state_keys[state]
        rows = np.arange(len(items))

        def back(distance: int) -> np.ndarray:
            return items[rows, np.maximum(n - distance, 0)]

        if table == "order1":
            return self.order1_keys[back(1)]
        if table == "lag":
            return self.lag_keys[back(self.lag)]
        return (self.order2_keys[0][back(1)] + self.order2_keys[1][back(2)]) % self.num_items

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return every array under a flat name, for saving."""
        arrays = {
            name: np.asarray(value)
            for name, value in vars(self).items()
            if name not in ("tables", "lag")
        }
        for name, table in self.tables.items():
            arrays |= {f"{name}.ring": table.ring, f"{name}.weights": table.weights}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], lag: int) -> Generator:
        """Build a generator from what ``to_arrays`` returned."""
        tables = {
            name: make_table(arrays[f"{name}.ring"], arrays[f"{name}.weights"]) for name in TABLES
        }
        fields = {name: value for name, value in arrays.items() if "." not in name}
        return cls(tables=tables, lag=lag, **fields)


def make_table(ring: np.ndarray, weights: np.ndarray) -> SuccessorTable:
    """Complete a table from its ring and weights."""
    return SuccessorTable(ring, np.argsort(ring), weights)


def item_names(num_items: int) -> np.ndarray:
    """Return the raw ids of the items, (V,) text: ``i0001`` and so on.

    >>> item_names(2).tolist()
    ['i0001', 'i0002']
    """
    width = max(4, len(str(num_items)))
    return np.array([f"i{number:0{width}d}" for number in range(1, num_items + 1)])


def parse_item_names(names: list[str], num_items: int) -> np.ndarray:
    """Return the generator's items of raw ids, (N,) int64.

    Raises:
        DataError: A name is none of the generator's.

    >>> parse_item_names(["i0002", "i0001"], 2).tolist()
    [1, 0]
    """
    index = {name: position for position, name in enumerate(item_names(num_items).tolist())}
    unknown = [name for name in names if name not in index]
    if unknown:
        raise DataError(
            f"item {unknown[0]!r} is none of the generator's {num_items} items. Were the data "
            "prepared from another log? Run fetch and prepare again."
        )
    return np.array([index[name] for name in names], dtype=np.int64)


def save_generator(generator: Generator, folder: Path, settings: dict) -> None:
    """Write ``generator.json`` (settings, readable) and ``generator.npz`` (arrays, no pickle)."""
    content = {"format_version": FORMAT_VERSION, "lag": generator.lag, "settings": settings}
    (folder / "generator.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with (folder / "generator.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **generator.to_arrays())


def load_generator(folder: Path) -> Generator:
    """Read what ``save_generator`` wrote.

    Raises:
        DataError: The files are missing, damaged or of another version.
    """
    try:
        content = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        if content.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"{folder / 'generator.json'} has format_version {content.get('format_version')!r};"
                f" this program reads {FORMAT_VERSION}. Run the fetch stage again."
            )
        with (
            (folder / "generator.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as stored,
        ):
            return Generator.from_arrays(dict(stored), int(content["lag"]))
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the generator in {folder} can't be read ({error}). Run the fetch stage again."
        ) from error
