"""Objectives pick the valid positions, use the model's own head, and equal slow references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tasks.training import losses
from tasks.training.negatives import NegativeSampler, item_distribution
from tasks.training.objective import (
    FullCrossEntropy,
    SampledObjective,
    has_linear_head,
    make_objective,
    valid_positions,
)
from xlstm_model import SequenceRecommender


@pytest.fixture
def batch(make_parts):
    return next(make_parts().batches.epoch(0))


@pytest.fixture(params=["tied", "untied", "normalised"])
def model(request, data, make_parts):
    torch.manual_seed(0)
    return SequenceRecommender(
        data.num_items,
        make_parts().model.sequence_model,
        8,
        tied=request.param != "untied",
        normalize=request.param == "normalised",
    ).double()


def hidden_of(model, batch):
    return model.encode(batch.item_ids, mask=batch.mask)[0]


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_the_loss_of_the_models_logits(model, batch, smoothing):
    """Position by position, from the model's public output."""
    logits = model(batch.item_ids, mask=batch.mask)
    rows = logits[batch.mask], batch.targets[batch.mask]
    expected = F.cross_entropy(rows[0][:, 1:], rows[1] - 1, label_smoothing=smoothing)
    loss = FullCrossEntropy(smoothing)(model, hidden_of(model, batch), batch)
    torch.testing.assert_close(loss, expected)
    wanted, found = (
        gradients(expected, model),
        gradients(FullCrossEntropy(smoothing)(model, hidden_of(model, batch), batch), model),
    )
    assert wanted.keys() == found.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], msg=lambda m, n=name: f"{n}: {m}")


def test_padding_embedding_gets_no_gradient(model, batch):
    loss = FullCrossEntropy()(model, hidden_of(model, batch), batch)
    grads = gradients(loss, model)
    assert (grads["item_embedding.weight"][0] == 0).all()


def test_valid_positions_are_those_of_the_mask(batch):
    hidden = torch.randn(*batch.mask.shape, 3)
    states, targets = valid_positions(hidden, batch)
    assert torch.equal(states, hidden[batch.mask])
    assert torch.equal(targets, batch.targets[batch.mask])


def test_a_head_of_ones_own_is_called(model, batch):
    class Scaled(SequenceRecommender):
        def head(self, hidden):
            return 3 * super().head(hidden)

    hidden = hidden_of(model, batch)
    usual = FullCrossEntropy()(model, hidden, batch)
    assert has_linear_head(model)
    patched = 3 * model.head(hidden[batch.mask])
    expected = losses.cross_entropy(patched, batch.targets[batch.mask])
    model.__class__ = Scaled
    assert not has_linear_head(model)
    subclassed = FullCrossEntropy()(model, hidden, batch)
    model.__class__ = SequenceRecommender
    model.head = lambda states: 3 * SequenceRecommender.head(model, states)
    assert not has_linear_head(model)
    torch.testing.assert_close(FullCrossEntropy()(model, hidden, batch), expected)
    torch.testing.assert_close(subclassed, expected)
    assert not torch.isclose(usual, expected)


def reference(objective, model, hidden, batch):
    """Position by position, negative by negative."""
    drawn = objective.sampler.draw(batch.users, batch.seed)
    scores = model.head(hidden)
    items = objective.sampler.probabilities
    rows = []
    for row, column in batch.mask.nonzero().tolist():
        target = int(batch.targets[row, column])
        group = row if len(drawn.item_ids) > 1 else 0
        negatives = drawn.item_ids[group].tolist()
        kept = [
            item
            for k, item in enumerate(negatives)
            if objective.sampler.collisions == "allow"
            or not (
                item == target
                or (drawn.is_positive is not None and bool(drawn.is_positive[row, k]))
            )
        ]
        s, positive = scores[row, column], scores[row, column, target]
        others = s[kept]
        if objective.loss == "sampled_softmax":
            estimate = positive.exp() + (others.exp() / items[kept]).sum() / len(negatives)
            rows.append(estimate.log() - positive)
        elif objective.loss == "bpr":
            rows.append(-F.logsigmoid(positive - others).mean() if kept else 0 * positive)
        else:
            beta = 1.0
            if objective.loss == "gbce":
                beta = losses.gbce_beta(len(negatives), len(items) - 1, objective.calibration)
            total = -beta * F.logsigmoid(positive) - F.logsigmoid(-others).sum()
            rows.append(total / (len(kept) + 1))
    return torch.stack(rows).mean()


@pytest.mark.parametrize("collisions", ["allow", "exclude_target", "exclude_positives"])
@pytest.mark.parametrize("scope", ["user", "global"])
@pytest.mark.parametrize("loss", ["sampled_softmax", "bpr", "bce", "gbce"])
def test_sampled_losses_equal_a_slow_reference(model, batch, data, loss, scope, collisions):
    sampler = NegativeSampler(
        item_distribution(data.num_items, "popularity", data.item_counts, 0.75),
        num_negatives=6,
        scope=scope,
        collisions=collisions,
        items=data.train.items,
        offsets=data.train.offsets,
    )
    objective = SampledObjective(loss, sampler)
    hidden = hidden_of(model, batch)
    found = objective(model, hidden, batch)
    torch.testing.assert_close(
        found, reference(objective, model, hidden, batch), rtol=1e-6, atol=1e-8
    )
    found.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_each_batch_draws_new_negatives(make_parts, data):
    parts = make_parts()
    sampler = NegativeSampler(item_distribution(data.num_items, "uniform"), num_negatives=8)
    objective = SampledObjective("bpr", sampler)
    batch = next(parts.batches.epoch(0))
    hidden = hidden_of(parts.model, batch)
    values = {
        objective(parts.model, hidden, replace(batch, seed=seed)).item() for seed in (1, 2, 3)
    }
    assert len(values) == 3
    again = objective(parts.model, hidden, replace(batch, seed=1)).item()
    assert again in values


def test_objectives_by_name():
    assert make_objective("cross_entropy", label_smoothing=0.1) == FullCrossEntropy(0.1)
    sampler = NegativeSampler(np.array([0.0, 1.0]), num_negatives=1)
    assert make_objective("gbce", sampler=sampler, calibration=0.5).calibration == 0.5
    with pytest.raises(ValueError, match="expected a NegativeSampler"):
        make_objective("bpr")
    with pytest.raises(ValueError, match="loss is 'hinge'; expected cross_entropy"):
        make_objective("hinge")
