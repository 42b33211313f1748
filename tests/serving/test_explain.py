from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tasks.serving.explain import explain
from tasks.serving.history import History
from tasks.serving.recommend import score_batch
from tasks.training.models import MODELS, NeuralRecommender, load_recommender
from xlstm_model import SequenceRecommender


class Planted(nn.Module):
    """A core whose output is a weighted sum of its inputs: `decay` 0 sees the last event only."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.embedding_dim, self.decay = 6, decay

    def forward(self, x, *, mask=None, state=None):
        total, outputs = torch.zeros_like(x[:, 0]), []
        for place in range(x.shape[1]):
            real = mask[:, place, None]
            total = torch.where(real, self.decay * total + x[:, place], total)
            outputs.append(total * real)
        return torch.stack(outputs, dim=1), (total,)

    def step(self, x, state):
        total = self.decay * state[0] + x
        return total, (total,)

    def initial_state(self, batch_size, *, device=None, dtype=None):
        return (torch.zeros(batch_size, 6),)


def planted(decay: float) -> NeuralRecommender:
    torch.manual_seed(0)
    network = SequenceRecommender(12, Planted(decay), 6)
    with torch.no_grad():
        network.item_embedding.weight[1:].normal_()
    return NeuralRecommender("planted", network, {}, 10)


def test_where_only_the_last_event_matters_it_gets_all_influence() -> None:
    history = History(np.array([3, 5, 7, 2]), None)
    found = explain(planted(0.0), history, item=4, max_len=10)
    assert np.abs(found.influence[:-1]).max() < 1e-6
    assert np.abs(found.gradient[:-1]).max() < 1e-6
    assert abs(found.gradient[-1]) > 0.01
    # Without the last event, the one before it is the last.
    model = planted(0.0)
    scores = score_batch(model, [history, History(history.items[:-1], None)], 10)[:, 1:]
    margins = scores[:, 3] - scores.mean(dim=1)
    assert found.influence[-1] == pytest.approx(float(margins[0] - margins[1]), abs=1e-5)


def test_in_a_sum_of_events_both_views_give_each_event_its_term() -> None:
    model = planted(1.0)
    history = History(np.array([3, 5, 5, 2]), None)
    found = explain(model, history, item=9, max_len=10)
    weight = model.model.item_embedding.weight.detach().double()
    direction = weight[9] - weight[1:].mean(dim=0)
    terms = (weight[torch.as_tensor(history.items)] @ direction).numpy()
    np.testing.assert_allclose(found.influence, terms, atol=1e-5)
    np.testing.assert_allclose(found.gradient, terms, atol=1e-5)


def test_an_only_event_carries_everything() -> None:
    model = planted(1.0)
    found = explain(model, History(np.array([3]), None), item=9, max_len=10)
    np.testing.assert_allclose(found.influence, found.gradient, atol=1e-5)
    assert abs(found.influence[0]) > 0.01


def test_a_constant_on_all_scores_moves_nothing() -> None:
    class Shifted:
        name, num_items = "shifted", 3

        def score(self, item_ids, lengths, times=None):
            scores = torch.tensor([-torch.inf, 1.0, 2.0, 4.0]).repeat(len(item_ids), 1)
            return scores + lengths[:, None]

    found = explain(Shifted(), History(np.array([1, 2]), None), item=3, max_len=9)
    assert found.influence.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found.gradient is None


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_every_model_is_explained_over_the_events_it_is_shown(project: Path, name: str) -> None:
    model = load_recommender(project / "artifacts" / "models" / name / "seed_0")
    before = {
        key: value.clone()
        for key, value in getattr(model, "model", nn.Module()).state_dict().items()
    }
    history = History(np.arange(1, 25), np.arange(24) * 10**9)
    found = explain(model, history, item=5, max_len=16)
    assert found.events.items.tolist() == list(range(9, 25))
    assert found.influence.shape == (16,)
    assert np.isfinite(found.influence).all()
    assert (found.gradient is not None) == isinstance(model, NeuralRecommender)
    if isinstance(model, NeuralRecommender):
        assert np.abs(found.gradient).max() > 0
        assert all(p.grad is None for p in model.model.parameters())
        for key, value in model.model.state_dict().items():
            assert torch.equal(value, before[key])
    if name == "popularity":
        assert found.influence.tolist() == [0.0] * 16


@pytest.mark.parametrize(
    ("items", "item", "message"),
    [([], 3, "the history is empty"), ([1], 0, "item is 0"), ([1], 13, r"expected .* 1\.\.12")],
)
def test_what_cannot_be_explained_is_refused(items, item, message) -> None:
    with pytest.raises(ValueError, match=message):
        explain(planted(1.0), History(np.array(items, dtype=np.int64), None), item, max_len=9)
