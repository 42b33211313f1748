"""The recommender: scores, padding, pieces, features, pooling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import SequenceRecommender, XLSTMStack, lengths_to_mask
from xlstm_model.state import index_select_state, map_state, named_tensors

NUM_ITEMS = 20
DAY = 86_400_000_000


def _model(dim: int = 8, **settings) -> SequenceRecommender:
    torch.manual_seed(0)
    stack = XLSTMStack(dim, "ms", num_heads=2)
    model = SequenceRecommender(NUM_ITEMS, stack, dim, **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.item_embedding.weight[0].zero_()
    return model.eval()


def _histories(lengths=(9, 4, 1), seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    mask = lengths_to_mask(torch.tensor(lengths), max(lengths))
    items = torch.randint(1, NUM_ITEMS + 1, size, generator=generator)
    times = torch.randint(0, 3 * DAY, size, generator=generator).cumsum(1)
    return torch.where(mask, items, 0), times, torch.tensor(lengths)


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
    return _model(**request.param)


def test_scores_have_one_column_per_item_and_none_for_padding(model):
    items, times, lengths = _histories()
    scores = model.last_scores(items, lengths, times)
    assert scores.shape == (3, NUM_ITEMS + 1)
    assert (scores[:, 0] == float("-inf")).all()
    assert torch.isfinite(scores[:, 1:]).all()


def test_last_scores_are_those_of_each_history_alone(model):
    items, times, lengths = _histories()
    scores = model.last_scores(items, lengths, times)
    for row, length in enumerate(lengths):
        own = (items[row : row + 1, :length], times[row : row + 1, :length])
        alone = model(own[0], times=own[1])
        alone = alone if alone.dim() == 2 else alone[:, -1]
        torch.testing.assert_close(scores[row : row + 1], alone, atol=1e-10, rtol=0)


def test_left_padding_gives_the_same_scores(model):
    items, times, lengths = _histories()
    expected = model.last_scores(items, lengths, times)
    shift = items.shape[1] - lengths
    place = torch.arange(items.shape[1]) - shift[:, None]
    left = torch.where(place >= 0, items.gather(1, place.clamp(min=0)), 0)
    left_times = torch.where(place >= 0, times.gather(1, place.clamp(min=0)), -1)
    scores = model(left, times=left_times)
    scores = scores if scores.dim() == 2 else scores[:, -1]
    torch.testing.assert_close(scores, expected, atol=1e-10, rtol=0)


def test_padding_content_has_no_effect(model):
    items, times, lengths = _histories()
    mask = lengths_to_mask(lengths, items.shape[1])
    garbage = torch.where(mask, items, 7)
    wild = torch.where(mask, times, 10 * DAY * torch.arange(items.shape[1]))
    first, state = model.encode(items, mask=mask, times=times)
    second, other = model.encode(garbage, mask=mask, times=wild)
    assert torch.equal(first, second)
    for (name, a), (_, b) in zip(named_tensors(state), named_tensors(other), strict=True):
        assert torch.equal(a, b), name


def test_pieces_and_single_events_equal_the_whole(model):
    items, times, lengths = _histories((9,))
    expected = model.last_scores(items, lengths, times)
    hidden, state = model.encode(items[:, :4], times=times[:, :4])
    hidden, state = model.encode(items[:, 4:6], times=times[:, 4:6], state=state)
    for position in range(6, 9):
        hidden, state = model.step(items[:, position], state, times=times[:, position])
    torch.testing.assert_close(model.head(hidden), expected, atol=1e-10, rtol=0)
    assert state.position.tolist() == [9]


def test_event_by_event_from_nothing_equals_the_whole(model):
    items, times, lengths = _histories((5, 5))
    state = model.initial_state(2)
    for position in range(5):
        hidden, state = model.step(items[:, position], state, times=times[:, position])
    scores = model.last_scores(items, lengths, times)
    torch.testing.assert_close(model.head(hidden), scores, atol=1e-10, rtol=0)


def test_users_of_unequal_histories_go_on_together(model):
    items, times, lengths = _histories((9, 4, 1))
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
    items, times, _ = _histories((6,))
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


def test_gradients_reach_every_parameter_and_leave_padding_alone():
    model = _model(pooling="attention", time_gaps=True, positions="learned", tied=False)
    items, times, _ = _histories((9, 9, 9))
    loss = nn.functional.cross_entropy(model(items, times=times), torch.tensor([1, 2, 3]))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    assert (model.item_embedding.weight.grad[0] == 0).all()
    assert (model.output_weight.grad[0] == 0).all()


def test_tied_padding_row_stays_zero_in_training():
    model = _model().float().train()
    items, _, _ = _histories()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        logits = model(items[:, :-1])
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), items[:, 1:].flatten(), ignore_index=0
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert (model.item_embedding.weight[0] == 0).all()


def test_item_by_item_scores_are_columns_of_the_head(model):
    items, times, _ = _histories()
    hidden, _ = model.encode(items, times=times)
    chosen = torch.randint(0, NUM_ITEMS + 1, (*hidden.shape[:-1], 5))
    torch.testing.assert_close(
        model.score_items(hidden, chosen), model.head(hidden).gather(-1, chosen)
    )
    shared = torch.tensor([0, 3, 20])
    torch.testing.assert_close(model.score_items(hidden, shared), model.head(hidden)[..., shared])


def test_normalised_scores_are_cosines_over_the_temperature():
    model = _model(normalize=True, temperature=0.5)
    items, _, lengths = _histories()
    scores = model.last_scores(items, lengths)[:, 1:]
    assert scores.abs().max() <= 2.0
    hidden, _ = model.encode(items[:1])
    expected = nn.functional.cosine_similarity(hidden[0, -1], model.item_embedding.weight[3], dim=0)
    assert scores[0, 2].item() == pytest.approx(expected.item() / 0.5)


def test_tying_and_untying_the_head():
    tied, untied = _model(), _model(tied=False)
    assert tied.item_vectors() is tied.item_embedding.weight
    assert untied.item_vectors() is not untied.item_embedding.weight
    extra = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert extra == (NUM_ITEMS + 1) * 8


@pytest.mark.parametrize("feature", ["time_gaps", "positions"])
def test_features_change_scores_only_when_on(feature):
    items, times, lengths = _histories((6,))
    on = _model(**{feature: {"time_gaps": True, "positions": "learned"}[feature]})
    off = _model()
    slower = times * 1000
    if feature == "time_gaps":
        assert not torch.allclose(
            on.last_scores(items, lengths, times), on.last_scores(items, lengths, slower)
        )
        assert torch.equal(
            off.last_scores(items, lengths, times), off.last_scores(items, lengths, slower)
        )
    else:
        table = on.positions.table.weight
        before = on.last_scores(items, lengths)
        with torch.no_grad():
            table[5].add_(torch.randn(8, dtype=torch.float64))  # a constant would be normed away
        assert not torch.allclose(on.last_scores(items, lengths), before)
        assert off.positions is None


def test_mean_and_last_pooling_are_what_they_say():
    items, _, _ = _histories((9, 4))
    every, mean, last = (_model(pooling=p) for p in ("every", "mean", "last"))
    hidden, _ = every.encode(items)
    expected = torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
    torch.testing.assert_close(mean.encode(items)[0], expected)
    torch.testing.assert_close(last.encode(items)[0], torch.stack([hidden[0, 8], hidden[1, 3]]))


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


REFUSED = [
    ({"num_items": 0}, "num_items is 0"),
    ({"embedding_dim": 4}, "embedding_dim is 4; expected 8"),
    ({"dropout": -0.1}, "dropout is -0.1"),
    ({"pooling": "max"}, "pooling is 'max'"),
    ({"positions": "rotary"}, "positions is 'rotary'"),
    ({"temperature": 0.0}, "temperature is 0.0"),
    ({"positions": "learned", "max_positions": 0}, "max_positions is 0"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    given = {"num_items": 5, "embedding_dim": 8} | settings
    with pytest.raises(ValueError, match="^" + message):
        SequenceRecommender(sequence_model=XLSTMStack(8, "m", num_heads=2), **given)


def test_missing_times_are_asked_for():
    model = _model(time_gaps=True)
    with pytest.raises(ValueError, match="times is absent with time_gaps on"):
        model.encode(torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="times is absent with time_gaps on"):
        model.step(torch.tensor([1]), model.initial_state(1))


def test_position_table_ends_in_a_shared_row():
    model = _model(positions="learned", max_positions=3)
    items = torch.tensor([[1, 2, 3, 4, 5]])
    assert torch.isfinite(model(items)[..., 1:]).all()
    weight = model.positions.table.weight
    model(items).nan_to_num(neginf=0.0).sum().backward()
    assert weight.grad.abs().sum(1).gt(0).all()
    assert weight.shape == (3, 8)


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
