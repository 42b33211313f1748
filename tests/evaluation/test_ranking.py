from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluation.ranking import SeenItems, rank_targets, top_items

INF = float("inf")


def ranks(scores: list[list[float]], targets: list[int], **options) -> list[int]:
    return rank_targets(torch.tensor(scores), torch.tensor(targets), **options).tolist()


def pairs(*seen: tuple[int, int]) -> SeenItems:
    rows, items = zip(*seen, strict=True) if seen else ((), ())
    return SeenItems(torch.tensor(rows, dtype=torch.long), torch.tensor(items, dtype=torch.long))


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ([-INF, 0.9, 0.5, 0.1], 1, 1),
        ([-INF, 0.9, 0.5, 0.1], 2, 2),
        ([-INF, 0.9, 0.5, 0.1], 3, 3),
        ([-INF, 0.5, 0.5, 0.1], 1, 2),
        ([-INF, 0.5, 0.5, 0.5], 2, 3),
        ([INF, 0.2, 0.3, 0.1], 2, 1),
        ([-INF, -INF, 0.3, 0.1], 1, 3),
        ([-INF, INF, INF, 0.1], 1, 2),
        ([-INF, -1.0, -2.0, -3.0], -1, 4),
    ],
    ids=[
        "best",
        "middle",
        "last",
        "tie is worst",
        "all tied",
        "padding scores highest",
        "target excluded by the model",
        "infinite tie",
        "cold target",
    ],
)
def test_hand_computed_rank(scores: list[float], target: int, expected: int) -> None:
    assert ranks([scores], [target]) == [expected]


def test_constant_scorer_gets_the_worst_rank() -> None:
    assert ranks([[0.0] * 8] * 7, list(range(1, 8))) == [7] * 7


def test_perfect_scorer_gets_exactly_one() -> None:
    targets = torch.arange(1, 101)
    scores = torch.nn.functional.one_hot(targets, 101).float()
    assert rank_targets(scores, targets).tolist() == [1] * 100


def test_seen_items_take_no_place_but_a_seen_target_stays() -> None:
    scores = [[-INF, 0.9, 0.8, 0.7, 0.6]] * 2
    seen = pairs((0, 1), (0, 1), (0, 2), (1, 2), (1, 3))
    assert ranks(scores, [4, 3], seen=seen) == [2, 2]


def test_every_item_seen_leaves_the_target_first() -> None:
    seen = pairs(*((0, item) for item in range(1, 5)))
    assert ranks([[-INF, 0.9, 0.8, 0.7, 0.6]], [4], seen=seen) == [1]


def test_no_seen_pairs_change_nothing() -> None:
    assert ranks([[-INF, 0.9, 0.8]], [2], seen=pairs()) == [2]


def test_cold_target_is_behind_every_item_with_the_filter_too() -> None:
    assert ranks([[-INF, 0.9, 0.8, 0.7]], [-1], seen=pairs((0, 1))) == [4]


def test_inputs_stay_as_they_were() -> None:
    scores = torch.rand(3, 6)
    before = scores.clone()
    rank_targets(scores, torch.tensor([1, 2, 3]), seen=pairs((0, 2), (2, 5)))
    top_items(scores, 2, seen=pairs((0, 2), (2, 5)))
    assert torch.equal(scores, before)


def test_half_precision_ranks_like_its_exact_copy() -> None:
    scores = torch.randn(20, 50).to(torch.bfloat16)
    targets = torch.randint(1, 50, (20,))
    assert torch.equal(rank_targets(scores, targets), rank_targets(scores.double(), targets))


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_agrees_with_counting_by_hand(seed: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (5, width)).astype(np.float32)  # few values: many ties
    targets = generator.integers(1, width, 5)
    seen = [(r, i) for r in range(5) for i in range(1, width) if generator.random() < 0.3]
    expected = [
        sum(
            scores[row, item] >= scores[row, target]
            for item in range(1, width)
            if item == target or (row, item) not in seen
        )
        for row, target in enumerate(targets)
    ]
    found = rank_targets(torch.from_numpy(scores), torch.from_numpy(targets), seen=pairs(*seen))
    assert found.tolist() == expected


@pytest.mark.parametrize("column", [0, 2])
def test_nan_raises_and_is_located(column: int) -> None:
    scores = torch.rand(3, 4)
    scores[1, column] = float("nan")
    with pytest.raises(ValueError, match=f"row 1, item {column}"):
        rank_targets(scores, torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("target", [0, 4, -2])
def test_impossible_target_raises(target: int) -> None:
    with pytest.raises(ValueError, match=f"target {target} is no item"):
        ranks([[-INF, 0.1, 0.2, 0.3]], [target])


@pytest.mark.parametrize("shape", [(4,), (2, 1), (2, 3, 4)])
def test_impossible_score_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(B, V\\)"):
        rank_targets(torch.zeros(shape), torch.tensor([1, 1]))


def test_wrong_number_of_targets_raises() -> None:
    with pytest.raises(ValueError, match="one per row"):
        ranks([[-INF, 0.1]], [1, 1])


def test_top_items_never_hold_padding_or_seen_items() -> None:
    scores = torch.tensor([[INF, 0.9, 0.8, -INF], [INF, 0.1, 0.2, 0.3]])
    assert top_items(scores, 3).tolist() == [[1, 2, 0], [3, 2, 1]]
    assert top_items(scores, 2, seen=pairs((0, 1), (1, 3))).tolist() == [[2, 0], [2, 1]]


def test_top_items_of_a_small_catalogue_are_all_of_it() -> None:
    assert top_items(torch.tensor([[0.0, 1.0, 2.0]]), 10).tolist() == [[2, 1]]


def test_top_items_refuse_an_empty_list() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        top_items(torch.zeros(1, 3), 0)
