"""The recommender: what each of its settings changes, and which values are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.xlstm_model.small_recommender import NUM_ITEMS, make_histories, make_recommender
from xlstm_model import SequenceRecommender, XLSTMStack


def test_gradients_reach_every_parameter_and_leave_padding_alone():
    model = make_recommender(pooling="attention", time_gaps=True, positions="learned", tied=False)
    items, times, _ = make_histories((9, 9, 9))
    loss = nn.functional.cross_entropy(model(items, times=times), torch.tensor([1, 2, 3]))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    assert (model.item_embedding.weight.grad[0] == 0).all()
    assert (model.output_weight.grad[0] == 0).all()


def test_tied_padding_row_stays_zero_in_training():
    model = make_recommender().float().train()
    items, _, _ = make_histories()
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


def test_normalised_scores_are_cosines_over_the_temperature():
    model = make_recommender(normalize=True, temperature=0.5)
    items, _, lengths = make_histories()
    scores = model.last_scores(items, lengths)[:, 1:]
    assert scores.abs().max() <= 2.0
    hidden, _ = model.encode(items[:1])
    expected = nn.functional.cosine_similarity(hidden[0, -1], model.item_embedding.weight[3], dim=0)
    assert scores[0, 2].item() == pytest.approx(expected.item() / 0.5)


def test_tying_and_untying_the_head():
    tied, untied = make_recommender(), make_recommender(tied=False)
    assert tied.item_vectors() is tied.item_embedding.weight
    assert untied.item_vectors() is not untied.item_embedding.weight
    extra = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert extra == (NUM_ITEMS + 1) * 8


@pytest.mark.parametrize("feature", ["time_gaps", "positions"])
def test_features_change_scores_only_when_on(feature):
    items, times, lengths = make_histories((6,))
    on = make_recommender(**{feature: {"time_gaps": True, "positions": "learned"}[feature]})
    off = make_recommender()
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
    items, _, _ = make_histories((9, 4))
    every, mean, last = (make_recommender(pooling=p) for p in ("every", "mean", "last"))
    hidden, _ = every.encode(items)
    expected = torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
    torch.testing.assert_close(mean.encode(items)[0], expected)
    torch.testing.assert_close(last.encode(items)[0], torch.stack([hidden[0, 8], hidden[1, 3]]))


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
    model = make_recommender(time_gaps=True)
    with pytest.raises(ValueError, match="times is absent with time_gaps on"):
        model.encode(torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="times is absent with time_gaps on"):
        model.step(torch.tensor([1]), model.initial_state(1))


def test_position_table_ends_in_a_shared_row():
    model = make_recommender(positions="learned", max_positions=3)
    items = torch.tensor([[1, 2, 3, 4, 5]])
    assert torch.isfinite(model(items)[..., 1:]).all()
    weight = model.positions.table.weight
    model(items).nan_to_num(neginf=0.0).sum().backward()
    assert weight.grad.abs().sum(1).gt(0).all()
    assert weight.shape == (3, 8)
