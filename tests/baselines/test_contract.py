from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.baselines.contract import check_histories, check_sequences


def test_everything_behind_the_length_becomes_padding_in_a_copy() -> None:
    item_ids = torch.tensor([[1, 2, 9], [0, 0, 0]])
    ids, lengths = check_histories(item_ids, torch.tensor([2, 0]), num_items=5)
    assert ids.tolist() == [[1, 2, 0], [0, 0, 0]]
    assert lengths.tolist() == [2, 0]
    assert item_ids[0, 2] == 9


@pytest.mark.parametrize(
    ("item_ids", "lengths", "message"),
    [
        ([[1, 2]], [3], "lengths run from 3 to 3; expected 0..2"),
        ([[1, 2]], [-1], "lengths run from -1"),
        ([[1, 2]], [1, 1], "expected \\(B, S\\) and \\(B,\\)"),
        ([[1, 7]], [2], "item id 7 in a history; expected 1..6"),
        ([[0, 2]], [2], "item id 0 in a history"),
    ],
)
def test_impossible_histories_are_refused(item_ids, lengths, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_histories(torch.tensor(item_ids), torch.tensor(lengths), num_items=6)


@pytest.mark.parametrize(
    ("items", "offsets", "message"),
    [
        ([1, 2], [0, 1], "for 2 items"),
        ([1, 2], [1, 2], "for 2 items"),
        ([1, 2], [2], "for 2 items"),
        ([], [0, 0], "items are empty"),
        ([1, 4], [0, 2], "run from 1 to 4; expected 1..3"),
        ([0, 2], [0, 2], "run from 0 to 2; expected 1..3"),
    ],
)
def test_impossible_sequences_are_refused(items, offsets, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sequences(np.array(items, np.int32), np.array(offsets), num_items=3)
