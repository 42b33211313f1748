"""The recommender, whatever its settings: scores, padding, pieces, single events."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.xlstm_model.small_recommender import DAY, NUM_ITEMS, make_histories, make_recommender
from xlstm_model import SequenceRecommender, XLSTMStack, lengths_to_mask
from xlstm_model.state import index_select_state, map_state, named_tensors

VARIANTS = [
    dict(zip(("pooling", "time_gaps", "positions", "normalize", "tied"), values, strict=True))
    for values in [
        ("every", False, "none", False, True),
        ("every", True, "learned", True, False),
        ("every", True, "sinusoidal", False, True),
        ("last", True, "learned", False, True),
        ("mean", True, "sinusoidal", True, True),
        ("attention", True, "learned", False, False),
        ("attention", False, "none", False, True),
    ]
]


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))
def model(request) -> SequenceRecommender:
    return make_recommender(**request.param)


def test_scores_have_one_column_per_item_and_none_for_padding(model):
    items, times, lengths = make_histories()
    scores = model.last_scores(items, lengths, times)
    assert scores.shape == (3, NUM_ITEMS + 1)
    assert (scores[:, 0] == float("-inf")).all()
    assert torch.isfinite(scores[:, 1:]).all()


def test_last_scores_are_those_of_each_history_alone(model):
    items, times, lengths = make_histories()
    scores = model.last_scores(items, lengths, times)
    for row, length in enumerate(lengths):
        own = (items[row : row + 1, :length], times[row : row + 1, :length])
        alone = model(own[0], times=own[1])
        alone = alone if alone.dim() == 2 else alone[:, -1]
        torch.testing.assert_close(scores[row : row + 1], alone, atol=1e-10, rtol=0)


def test_left_padding_gives_the_same_scores(model):
    items, times, lengths = make_histories()
    expected = model.last_scores(items, lengths, times)
    shift = items.shape[1] - lengths
    place = torch.arange(items.shape[1]) - shift[:, None]
    left = torch.where(place >= 0, items.gather(1, place.clamp(min=0)), 0)
    left_times = torch.where(place >= 0, times.gather(1, place.clamp(min=0)), -1)
    scores = model(left, times=left_times)
    scores = scores if scores.dim() == 2 else scores[:, -1]
    torch.testing.assert_close(scores, expected, atol=1e-10, rtol=0)


def test_padding_content_has_no_effect(model):
    items, times, lengths = make_histories()
    mask = lengths_to_mask(lengths, items.shape[1])
    garbage = torch.where(mask, items, 7)
    wild = torch.where(mask, times, 10 * DAY * torch.arange(items.shape[1]))
    first, state = model.encode(items, mask=mask, times=times)
    second, other = model.encode(garbage, mask=mask, times=wild)
    assert torch.equal(first, second)
    for (name, a), (_, b) in zip(named_tensors(state), named_tensors(other), strict=True):
        assert torch.equal(a, b), name


def test_pieces_and_single_events_equal_the_whole(model):
    items, times, lengths = make_histories((9,))
    expected = model.last_scores(items, lengths, times)
    hidden, state = model.encode(items[:, :4], times=times[:, :4])
    hidden, state = model.encode(items[:, 4:6], times=times[:, 4:6], state=state)
    for position in range(6, 9):
        hidden, state = model.step(items[:, position], state, times=times[:, position])
    torch.testing.assert_close(model.head(hidden), expected, atol=1e-10, rtol=0)
    assert state.position.tolist() == [9]


def test_event_by_event_from_nothing_equals_the_whole(model):
    items, times, lengths = make_histories((5, 5))
    state = model.initial_state(2)
    for position in range(5):
        hidden, state = model.step(items[:, position], state, times=times[:, position])
    scores = model.last_scores(items, lengths, times)
    torch.testing.assert_close(model.head(hidden), scores, atol=1e-10, rtol=0)


def test_users_of_unequal_histories_go_on_together(model):
    items, times, lengths = make_histories((9, 4, 1))
    _, state = model.encode(items, times=times)
    assert state.position.tolist() == [9, 4, 1]
    now = times.amax(1) + DAY
    hidden, _ = model.step(torch.tensor([3, 5, 7]), state, times=now)
    for row, length in enumerate(lengths):
        longer = torch.cat([items[row, :length], torch.tensor([3, 5, 7])[row : row + 1]])
        clock = torch.cat([times[row, :length], now[row : row + 1]])
        alone = model.last_scores(longer[None], length[None] + 1, clock[None])
        torch.testing.assert_close(model.head(hidden)[row : row + 1], alone, atol=1e-10, rtol=0)


def test_step_is_pure_and_states_can_be_repeated(model):
    items, times, _ = make_histories((6,))
    _, state = model.encode(items, times=times)
    copy = map_state(torch.clone, state)
    beams = index_select_state(state, torch.zeros(NUM_ITEMS, dtype=torch.int64))
    clock = times[:, -1].expand(NUM_ITEMS) + DAY
    hidden, _ = model.step(torch.arange(1, NUM_ITEMS + 1), beams, times=clock)
    single, _ = model.step(torch.tensor([4]), state, times=times[:, -1] + DAY)
    torch.testing.assert_close(hidden[3:4], single, atol=1e-12, rtol=0)
    for (name, now), (_, then) in zip(named_tensors(state), named_tensors(copy), strict=True):
        assert torch.equal(now, then), name


def test_empty_history_scores_without_nan(model):
    items = torch.zeros(2, 3, dtype=torch.int64)
    items[0, 0] = 5
    scores = model.last_scores(items, torch.tensor([1, 0]), torch.zeros_like(items))
    assert not scores.isnan().any()
    assert scores[1, 1:].unique().numel() == 1


def test_item_by_item_scores_are_columns_of_the_head(model):
    items, times, _ = make_histories()
    hidden, _ = model.encode(items, times=times)
    chosen = torch.randint(0, NUM_ITEMS + 1, (*hidden.shape[:-1], 5))
    torch.testing.assert_close(
        model.score_items(hidden, chosen), model.head(hidden).gather(-1, chosen)
    )
    shared = torch.tensor([0, 3, 20])
    torch.testing.assert_close(model.score_items(hidden, shared), model.head(hidden)[..., shared])


def test_any_sequence_model_with_the_three_methods_fits():
    class Copy(nn.Module):
        embedding_dim = 4

        def forward(self, x, *, mask=None, state=None):
            return x, state

        def step(self, x, state):
            return x, state

        def initial_state(self, batch_size, *, device=None, dtype=None):
            return ()

    model = SequenceRecommender(5, Copy(), 4)
    items = torch.tensor([[1, 2, 3]])
    expected = model.item_embedding.weight[3] @ model.item_embedding.weight[1:].T
    torch.testing.assert_close(model.last_scores(items, torch.tensor([3]))[0, 1:], expected)


def test_padding_on_the_right_changes_no_real_position_unknown_to_a_causal_model():
    torch.manual_seed(0)
    model = SequenceRecommender(9, XLSTMStack(8, "ms", num_heads=2), 8).eval()
    ids = torch.randint(1, 10, (3, 12))
    mask = torch.arange(12) < torch.tensor([[12], [5], [1]])
    ids = ids * mask
    known, _ = model.encode(ids, mask=mask)
    unknown, _ = model.encode(ids, mask=mask, only_real=True)
    torch.testing.assert_close(known[mask], unknown[mask])
    assert not torch.equal(known, unknown)
