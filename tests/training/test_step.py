"""One step: dropout on, noise from the batch alone, clipping measured before, bf16 possible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tasks.training.snapshot import copy_weights
from tasks.training.step import make_optimizer, train_step


@pytest.fixture
def parts(make_parts):
    return make_parts("gru", dropout=0.5)


@pytest.fixture
def batch(parts):
    return next(parts.batches.epoch(0))


def step(parts, batch, plan, **options):
    optimizer = make_optimizer(parts.model, plan)
    return train_step(parts.model, parts.objective, batch, optimizer, plan, **options)


def test_a_step_moves_every_parameter(parts, batch, plan):
    before = copy_weights(parts.model)
    step(parts, batch, plan)
    after = parts.model.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert (after["item_embedding.weight"][0] == 0).all()


def test_noise_depends_on_the_batch_seed_alone(make_parts, batch, plan):
    def loss(seed):
        torch.rand(3)
        parts = make_parts("gru", dropout=0.5)
        return step(parts, replace(batch, seed=seed), plan).loss.item()

    assert loss(1) == loss(1) != loss(2)


def test_dropout_is_on_even_if_the_model_was_in_eval_mode(parts, batch, plan):
    parts.model.eval()
    noisy = step(parts, batch, plan).loss
    assert parts.model.training
    parts.model.eval()
    with torch.no_grad():
        hidden, _ = parts.model.encode(batch.item_ids, mask=batch.mask)
        quiet = parts.objective(parts.model, hidden, batch)
    assert not torch.isclose(noisy, quiet, rtol=1e-6)


def test_gradients_are_shown_before_clipping(parts, batch, plan):
    norms = []

    def look():
        grads = [p.grad for p in parts.model.parameters()]
        norms.append(torch.cat([g.flatten() for g in grads]).norm().item())

    tight = replace(plan, max_grad_norm=1e-3)
    result = step(parts, batch, tight, on_gradients=look)
    assert norms == [pytest.approx(result.grad_norm.item(), rel=1e-5)]
    look()
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_gradients_of_an_earlier_step_are_forgotten(parts, batch, plan):
    for parameter in parts.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    assert step(parts, batch, plan).grad_norm.item() < 100


def test_bf16_autocast_gives_nearly_the_same_loss(make_parts, batch, plan):
    losses = {
        precision: step(make_parts("gru"), batch, replace(plan, precision=precision)).loss
        for precision in ("float32", "bf16")
    }
    assert losses["float32"].dtype == losses["bf16"].dtype == torch.float32
    torch.testing.assert_close(losses["bf16"], losses["float32"], rtol=0.02, atol=0.02)


def test_a_nan_loss_changes_nothing(parts, batch, plan):
    before = copy_weights(parts.model)
    nan = replace(parts, objective=lambda model, hidden, batch: hidden.sum() * float("nan"))
    result = step(nan, batch, plan)
    assert result.loss.isnan()
    assert result.grad_norm.isnan()
    assert all(torch.equal(before[n], t) for n, t in parts.model.state_dict().items())
