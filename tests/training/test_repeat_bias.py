"""Losses of a model with a repeat bias: fused and plain forms agree, and the bias is learned."""

from __future__ import annotations

import pytest
import torch

from tasks.baselines.gru import GRUCore
from tasks.training import losses
from tasks.training.batches import WindowBatches
from tasks.training.negatives import NegativeSampler, item_distribution
from tasks.training.objective import make_objective, valid_positions
from xlstm_model import SequenceRecommender

ITEMS = torch.tensor([1, 2, 1, 3, 3, 4, 2, 5, 1, 6]).numpy()
OFFSETS = torch.tensor([0, 5, 10]).numpy()


@pytest.fixture
def model() -> SequenceRecommender:
    torch.manual_seed(0)
    built = SequenceRecommender(6, GRUCore(4), 4, repeat_window=10).double()
    with torch.no_grad():
        built.repeats.weight.copy_(torch.tensor([-0.1, 0.05]))
        built.item_embedding.weight[1:].normal_()
    return built


@pytest.fixture
def batch():
    return WindowBatches(ITEMS, OFFSETS, max_seq_len=10, batch_size=2, seed=0).batch(0, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_fused_loss_and_its_gradients_are_those_of_the_scores(
    model: SequenceRecommender, batch, smoothing: float
) -> None:
    parameters = list(model.parameters())
    hidden, _ = model.encode(batch.item_ids, mask=batch.mask)
    fused = make_objective("cross_entropy", label_smoothing=smoothing)(model, hidden, batch)
    scores = model(batch.item_ids, mask=batch.mask).flatten(0, 1)[batch.positions]
    _, targets = valid_positions(hidden, batch)
    plain = losses.cross_entropy(scores, targets, smoothing)
    torch.testing.assert_close(fused, plain)
    pairs = zip(
        torch.autograd.grad(fused, parameters),
        torch.autograd.grad(plain, parameters),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scope", ["global", "user"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "bpr", "bce", "gbce"])
def test_sampled_losses_see_the_bias(
    model: SequenceRecommender, batch, loss: str, scope: str
) -> None:
    sampler = NegativeSampler(
        item_distribution(6, "uniform", torch.ones(7).numpy(), 1.0),
        num_negatives=5,
        scope=scope,
        collisions="exclude_target",
        items=ITEMS,
        offsets=OFFSETS,
    )
    hidden, _ = model.encode(batch.item_ids, mask=batch.mask)
    objective = make_objective(loss, sampler=sampler)
    gradient = torch.autograd.grad(objective(model, hidden, batch), model.repeats.weight)[0]
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
