"""The generator's tables, names and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.data.generator import (
    COMPONENTS,
    Generator,
    item_names,
    load_generator,
    make_table,
    parse_item_names,
    save_generator,
)
from tasks.data.readers import DataError
from tasks.data.synthetic import build_generator

EQUAL = dict.fromkeys(COMPONENTS, 1 / 6)


def build(**changes: object) -> Generator:
    arguments = {
        "num_items": 12,
        "num_tastes": 3,
        "mixture": EQUAL,
        "zipf_exponent": 1.0,
        "lag": 3,
        "branching": 4,
        "seed": 1,
        **changes,
    }
    return build_generator(**arguments)


def test_table_by_hand() -> None:
    table = make_table(np.array([2, 0, 1]), np.array([0.75, 0.25]))
    # Key 1 leads to ring[1] = 0 and ring[2] = 1; key 2 to ring[2] = 1 and ring[0] = 2.
    keys = np.array([1, 1, 2, 2])
    assert table.draw(keys, np.array([0.0, 0.75, 0.7, 0.999])).tolist() == [0, 1, 1, 2]
    assert table.probability(keys, np.array([0, 2, 1, 2])).tolist() == [0.75, 0.0, 0.75, 0.25]
    scores = np.zeros((2, 3))
    table.add_to(scores, np.array([1, 2]), np.array([1.0, 2.0]))
    assert scores.tolist() == [[0.75, 0.25, 0.0], [0.0, 1.5, 0.5]]


def test_every_distribution_sums_to_one() -> None:
    generator = build()
    assert generator.popularity.sum() == pytest.approx(1.0)
    sums = np.bincount(generator.item_taste, weights=generator.taste_probability)
    assert sums == pytest.approx(np.ones(3))
    for table in generator.tables.values():
        scores = np.zeros((12, 12))
        table.add_to(scores, np.arange(12), np.ones(12))
        assert scores.sum(axis=1) == pytest.approx(np.ones(12))
        drawn = table.probability(np.repeat(np.arange(12), 12), np.tile(np.arange(12), 12))
        assert scores.ravel() == pytest.approx(drawn)


def test_popularity_follows_zipf() -> None:
    ordered = -np.sort(-build(zipf_exponent=0.7).popularity)
    assert ordered / ordered[0] == pytest.approx(np.arange(1, 13) ** -0.7)


def test_weights_of_missing_contexts_go_to_the_others() -> None:
    weights = build().mixture_at(np.array([0, 1, 2, 3]))
    third, quarter, fifth, sixth = 1 / 3, 1 / 4, 1 / 5, 1 / 6
    assert weights[0] == pytest.approx([third, third, 0, 0, 0, third])
    assert weights[1] == pytest.approx([quarter, quarter, quarter, 0, 0, quarter])
    assert weights[2] == pytest.approx([fifth, fifth, fifth, fifth, 0, fifth])
    assert weights[3] == pytest.approx([sixth] * 6)


def test_popularity_stands_in_where_nothing_else_can() -> None:
    weights = build(mixture={"order2": 1.0}).mixture_at(np.array([0, 1, 2]))
    assert weights[:, 0].tolist() == [1.0, 1.0, 0.0]
    assert weights[2, 3] == 1.0


def test_parity_state_flips_on_half_of_the_items() -> None:
    moves = build(num_items=1000).state_moves
    kinds = {tuple(move) for move in moves.tolist()}
    assert kinds == {(0, 1), (1, 0)}
    assert 400 < (moves[:, 0] == 1).sum() < 600


def test_more_states_move_by_permutations_that_do_not_commute() -> None:
    moves = build(num_items=100, num_states=5).state_moves
    kinds = np.unique(moves, axis=0)
    assert np.sort(kinds, axis=1).tolist() == [[0, 1, 2, 3, 4]] * 3
    assert any((a[b] != b[a]).any() for a in kinds for b in kinds)


def test_same_seed_same_generator_other_seed_other() -> None:
    first, second, third = build(), build(), build(seed=2)
    for name, array in first.to_arrays().items():
        assert np.array_equal(array, second.to_arrays()[name])
    assert not np.array_equal(first.popularity, third.popularity)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_items": 1}, "num_items is 1; expected 2 to"),
        ({"num_tastes": 13}, "num_tastes is 13; expected 1 to 12"),
        ({"branching": 0}, "branching is 0; expected 1 to 12"),
        ({"lag": 0}, "lag is 0; expected 1"),
        ({"num_states": 1}, "num_states is 1; expected 2"),
        ({"mixture": {"order1": 0.5}}, "sum 0.5"),
        ({"mixture": {"order1": 1.5, "lag": -0.5}}, "weights of 0 or more"),
        ({"mixture": {"order3": 1.0}}, "mixture names 'order3'"),
    ],
)
def test_arguments_out_of_range_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_names_of_many_items_sort_and_return() -> None:
    names = item_names(12_345)
    assert (names[0], names[-1]) == ("i00001", "i12345")
    assert np.array_equal(parse_item_names(names.tolist(), 12_345), np.arange(12_345))
    with pytest.raises(DataError, match="'film' is none of the generator's 5 items"):
        parse_item_names(["i0001", "film"], 5)


def test_saved_generator_is_the_same(tmp_path: Path) -> None:
    generator = build(num_states=4)
    save_generator(generator, tmp_path, {"seed": 1})
    loaded = load_generator(tmp_path)
    assert loaded.lag == generator.lag
    arrays = loaded.to_arrays()
    for name, array in generator.to_arrays().items():
        assert np.array_equal(arrays[name], array)
    assert np.array_equal(loaded.tables["lag"].place, generator.tables["lag"].place)


@pytest.mark.parametrize("damage", ["missing", "cut", "version", "array"])
def test_damaged_generator_is_refused(damage: str, tmp_path: Path) -> None:
    save_generator(build(), tmp_path, {})
    if damage == "missing":
        (tmp_path / "generator.json").unlink()
    elif damage == "cut":
        data = (tmp_path / "generator.npz").read_bytes()
        (tmp_path / "generator.npz").write_bytes(data[:500])
    elif damage == "version":
        (tmp_path / "generator.json").write_text('{"format_version": 99, "lag": 1}')
    else:
        np.savez(tmp_path / "generator.npz", popularity=np.ones(3))
    with pytest.raises(DataError, match="Run the fetch stage again"):
        load_generator(tmp_path)
