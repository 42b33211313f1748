"""The repeat bias: what it sees, what it adds, and that all ways of scoring agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlstm_model import SequenceRecommender, XLSTMStack
from xlstm_model.repeats import RepeatBias, next_occurrence, recent_after, repeats_at

histories = st.lists(
    st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4
).map(torch.tensor)


def slow_history(items: list[int], column: int, window: int) -> tuple[int, set[int]]:
    """The newest item and the set of earlier ones, straight from the definition."""
    seen = items[max(0, column - window + 1) : column + 1]
    return seen[-1], set(seen[:-1]) - {0, seen[-1]}


@settings(deadline=None, max_examples=60)
@given(histories, st.integers(1, 8))
def test_every_position_sees_each_item_of_its_past_once(
    item_ids: torch.Tensor, window: int
) -> None:
    rows, columns = (x.reshape(-1) for x in torch.meshgrid(
        torch.arange(len(item_ids)), torch.arange(6), indexing="ij"))  # fmt: skip
    found = repeats_at(item_ids, rows, columns, window)
    for newest, earlier, row, column in zip(*found, rows, columns, strict=True):
        kept = [item for item in earlier.tolist() if item]
        expected = slow_history(item_ids[row].tolist(), int(column), window)
        assert (newest.item(), set(kept)) == expected
        assert len(kept) == len(set(kept))


def test_next_occurrence_by_hand() -> None:
    assert next_occurrence(torch.tensor([[1, 2, 1, 1], [3, 3, 4, 5]])).tolist() == [
        [2, 4, 3, 4],
        [1, 4, 4, 4],
    ]


def test_recent_items_keep_their_order_over_padding_on_either_side() -> None:
    items = torch.tensor([[0, 7, 8], [7, 8, 0], [1, 0, 2]])
    recent = recent_after(torch.tensor([[0, 0, 5, 6]] * 3), items, items != 0)
    assert recent.tolist() == [[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 1, 2]]


def make_model(window: int = 20) -> SequenceRecommender:
    torch.manual_seed(0)
    stack = XLSTMStack(8, "ms", num_heads=2)
    model = SequenceRecommender(9, stack, 8, repeat_window=window).double().eval()
    with torch.no_grad():
        model.repeats.weight.copy_(torch.tensor([-0.3, 0.2]))
    return model


def test_the_bias_reaches_exactly_the_items_of_the_history() -> None:
    model = make_model()
    item_ids = torch.tensor([[3, 5, 3, 2]])
    difference = model(item_ids) - model.head(model.encode(item_ids)[0])
    expected = torch.zeros(4, 10, dtype=torch.float64)
    expected[0, 3] = expected[1, 5] = expected[2, 3] = expected[3, 2] = -3.0
    expected[1, 3] = expected[2, 5] = expected[3, 3] = expected[3, 5] = 2.0
    torch.testing.assert_close(difference[0, :, 1:], expected[:, 1:])


@pytest.mark.parametrize("window", [2, 20])
def test_whole_histories_last_scores_and_steps_agree(window: int) -> None:
    model = make_model(window)
    item_ids = torch.tensor([[3, 5, 3, 2], [4, 4, 0, 0]])
    lengths = torch.tensor([4, 2])
    everywhere = model(item_ids)
    last = model.last_scores(item_ids, lengths)
    torch.testing.assert_close(last[0], everywhere[0, 3])
    torch.testing.assert_close(last[1], everywhere[1, 1])
    state = model.initial_state(1)
    for column in range(4):
        hidden, state = model.step(item_ids[:1, column], state)
        torch.testing.assert_close(model.next_scores(hidden, state)[0], everywhere[0, column])
    _, prefix = model.encode(item_ids[:1, :2])
    hidden, state = model.encode(item_ids[:1, 2:], state=prefix)
    torch.testing.assert_close(model.next_scores(hidden[:, -1], state)[0], everywhere[0, 3])


def test_left_padding_changes_nothing() -> None:
    model = make_model()
    left = model(torch.tensor([[0, 0, 3, 5, 3]]))[:, 2:, 1:]
    torch.testing.assert_close(left, model(torch.tensor([[3, 5, 3]]))[:, :, 1:])


def test_at_zero_scores_are_as_without() -> None:
    model = make_model()
    with torch.no_grad():
        model.repeats.weight.zero_()
    item_ids = torch.tensor([[3, 5, 3, 2]])
    assert torch.equal(model(item_ids), model.head(model.encode(item_ids)[0]))


def test_chosen_items_get_what_all_items_get() -> None:
    model = make_model()
    item_ids = torch.tensor([[3, 5, 3, 2]])
    repeats = repeats_at(item_ids, torch.zeros(4, dtype=torch.long), torch.arange(4), 20)
    everything = model.repeats(torch.zeros(4, 10, dtype=torch.float64), repeats)
    chosen = torch.tensor([0, 2, 3, 5, 9])
    torch.testing.assert_close(model.repeats.of_items(chosen, repeats), everything[:, chosen])
    own = chosen.expand(4, -1)
    torch.testing.assert_close(model.repeats.of_items(own, repeats), everything[:, chosen])


def test_a_window_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        RepeatBias(0)
