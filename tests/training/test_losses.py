"""Losses against hand computation, and the identities they have to keep."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tasks.training import losses


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_padding_column(scores):
    return torch.cat([torch.full_like(scores[:, :1], -torch.inf), scores], dim=1)


VALID = torch.ones(1, 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], 3, math.log(4)),
        ([math.log(3), 0.0], 1, math.log(4 / 3)),
        ([math.log(3), 0.0], 2, math.log(4)),
        ([50.0, 0.0], 1, math.log1p(math.exp(-50))),
        ([-800.0, 800.0], 1, 1600.0),
        ([7.0], 1, 0.0),
    ],
)
def test_cross_entropy_by_hand(scores, target, expected):
    logits = with_padding_column(torch.tensor([scores], dtype=torch.float64))
    loss = losses.cross_entropy(logits, torch.tensor([target]))
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_cross_entropy_is_the_mean_over_rows():
    logits, targets = with_padding_column(randn(5, 4)), torch.tensor([1, 2, 3, 4, 1])
    rows = [losses.cross_entropy(logits[i : i + 1], targets[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(losses.cross_entropy(logits, targets), torch.stack(rows).mean())


def test_cross_entropy_ignores_the_padding_column():
    logits, targets = with_padding_column(randn(3, 4)), torch.tensor([1, 2, 4])
    other = logits.clone()
    other[:, 0] = 99.0
    assert losses.cross_entropy(logits, targets) == losses.cross_entropy(other, targets)


def test_cross_entropy_does_not_change_when_all_scores_shift():
    logits, targets = with_padding_column(randn(3, 4)), torch.tensor([1, 2, 4])
    shifted = losses.cross_entropy(logits + 3.7, targets)
    torch.testing.assert_close(shifted, losses.cross_entropy(logits, targets))


def test_cross_entropy_gradient_is_probability_minus_target():
    scores = randn(3, 4).requires_grad_()
    targets = torch.tensor([1, 2, 4])
    losses.cross_entropy(with_padding_column(scores), targets).backward()
    expected = (scores.detach().softmax(1) - F.one_hot(targets - 1, 4)) / 3
    torch.testing.assert_close(scores.grad, expected)
    torch.testing.assert_close(scores.grad.sum(1), torch.zeros(3, dtype=torch.float64))


def test_label_smoothing_by_hand():
    # Probabilities 3/4 and 1/4; the smoothed target is (0.9, 0.1).
    logits = with_padding_column(torch.tensor([[math.log(3), 0.0]], dtype=torch.float64))
    loss = losses.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2)
    assert loss.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))


@pytest.mark.parametrize("target", [0, 5, -1])
def test_target_that_is_no_item_is_refused(target):
    with pytest.raises(ValueError, match=r"expected 1\.\.4"):
        losses.cross_entropy(with_padding_column(randn(1, 4)), torch.tensor([target]))


def test_sampled_softmax_over_all_items_is_cross_entropy():
    num_items = 7
    scores, target = randn(1, num_items), 3
    items = torch.arange(1, num_items + 1)
    log_q = torch.full((1, num_items), -math.log(num_items), dtype=torch.float64)
    valid = (items != target)[None]
    sampled = losses.sampled_softmax(scores[:, target - 1], scores, log_q, valid)
    full = losses.cross_entropy(with_padding_column(scores), torch.tensor([target]))
    torch.testing.assert_close(sampled, full)


def test_sampled_softmax_estimates_the_normaliser_without_bias():
    """With log-Q correction, popular negatives are not over-weighted."""
    scores = randn(1, 5)[0]
    q = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = q.multinomial(200_000, replacement=True, generator=generator)[None]
    target = 1
    loss = losses.sampled_softmax(
        scores[target][None], scores[drawn], q.log()[drawn], drawn != target
    )
    exact = scores.logsumexp(0) - scores[target]
    assert loss.item() == pytest.approx(exact.item(), abs=0.01)
    uncorrected = losses.sampled_softmax(
        scores[target][None], scores[drawn], torch.full_like(q, 1 / 5).log()[drawn], drawn != target
    )
    assert abs(uncorrected.item() - exact.item()) > 0.05


def test_sampled_softmax_without_valid_negative_is_zero():
    loss = losses.sampled_softmax(randn(2), randn(2, 3), torch.zeros(3), ~VALID)
    assert loss.item() == 0.0


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [
        (0.0, 0.0, math.log(2)),
        (math.log(3), 0.0, math.log(4 / 3)),
        (0.0, math.log(3), math.log(4)),
        (900.0, 0.0, 0.0),
        (0.0, 900.0, 900.0),
    ],
)
def test_bpr_by_hand(positive, negative, expected):
    loss = losses.bpr(torch.tensor([positive]), torch.tensor([[negative]]), VALID)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_bpr_depends_on_the_difference_alone_and_is_antisymmetric():
    positive, negative = randn(4), randn(4, 1, seed=1)
    loss = losses.bpr(positive, negative, VALID)
    torch.testing.assert_close(losses.bpr(positive + 2.5, negative + 2.5, VALID), loss)
    # -ln s(d) + ln s(-d) = -d
    swapped = losses.bpr(negative[:, 0], positive[:, None], VALID)
    torch.testing.assert_close(loss - swapped, (negative[:, 0] - positive).mean())


def test_bpr_pulls_the_target_up_and_negatives_down():
    positive, negative = randn(4).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    losses.bpr(positive, negative, VALID).backward()
    assert (positive.grad < 0).all()
    assert (negative.grad > 0).all()
    torch.testing.assert_close(positive.grad, -negative.grad.sum(1))


@pytest.mark.parametrize(
    ("positive", "negatives", "expected"),
    [
        (0.0, [0.0], math.log(2)),
        (math.log(3), [0.0, -math.log(3)], (math.log(4 / 3) * 2 + math.log(2)) / 3),
    ],
)
def test_bce_by_hand(positive, negatives, expected):
    loss = losses.bce(torch.tensor([positive]), torch.tensor([negatives]), VALID)
    assert loss.item() == pytest.approx(expected)


def test_gbce_by_hand_and_at_beta_one():
    positive, negative = randn(3), randn(3, 2, seed=1)
    expected = (-0.3 * F.logsigmoid(positive) - F.logsigmoid(-negative).sum(1)) / 3
    torch.testing.assert_close(losses.gbce(positive, negative, VALID, beta=0.3), expected.mean())
    torch.testing.assert_close(
        losses.gbce(positive, negative, VALID, beta=1.0), losses.bce(positive, negative, VALID)
    )


def test_gbce_positive_probability_is_a_power():
    """-ln of sigmoid(s) ** beta (eq. 11), with the negative scored so low that it adds nothing."""
    score, beta = torch.tensor([0.4]), 0.25
    loss = losses.gbce(score, torch.tensor([[-200.0]]), VALID, beta=beta)
    assert 2 * loss.item() == pytest.approx(-math.log(torch.sigmoid(score).item() ** beta))


@pytest.mark.parametrize(
    ("num_negatives", "num_items", "calibration", "expected"),
    [
        (1, 101, 0.0, 1.0),
        (1, 101, 1.0, 0.01),
        (25, 101, 0.5, 0.625),
        (100, 101, 0.5, 1.0),
        (500, 101, 1.0, 1.0),
    ],
)
def test_gbce_beta_by_hand(num_negatives, num_items, calibration, expected):
    assert losses.gbce_beta(num_negatives, num_items, calibration) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [losses.bpr, losses.bce])
def test_invalid_negatives_have_no_effect(loss):
    positive, negative = randn(3), randn(3, 4, seed=1)
    valid = torch.tensor([[True, True, False, True]] * 3)
    spoiled = negative.masked_fill(~valid, 50.0)
    kept = loss(positive, negative[:, [0, 1, 3]], VALID)
    torch.testing.assert_close(loss(positive, spoiled, valid), kept)


def test_invalid_negatives_leave_the_softmax():
    positive, negative = randn(3), randn(3, 4, seed=1)
    valid = torch.tensor([[True, True, False, True]] * 3)
    log_q = torch.zeros(4, dtype=torch.float64)
    spoiled = negative.masked_fill(~valid, 50.0).requires_grad_()
    loss = losses.sampled_softmax(positive, spoiled, log_q, valid)
    kept = (negative.exp() * valid).sum(1) / 4  # K counts the draws, excluded ones too
    torch.testing.assert_close(loss, ((positive.exp() + kept).log() - positive).mean())
    loss.backward()
    assert (spoiled.grad[~valid] == 0).all()


@pytest.mark.parametrize("name", ["sampled_softmax", "bpr", "bce", "gbce"])
def test_gradients_are_the_derivatives(name):
    positive, negative = randn(3).requires_grad_(), randn(3, 2, seed=1).requires_grad_()
    valid = torch.tensor([[True, False], [True, True], [True, True]])
    functions = {
        "sampled_softmax": lambda p, n: losses.sampled_softmax(p, n, torch.zeros(2), valid),
        "bpr": lambda p, n: losses.bpr(p, n, valid),
        "bce": lambda p, n: losses.bce(p, n, valid),
        "gbce": lambda p, n: losses.gbce(p, n, valid, beta=0.2),
    }
    assert torch.autograd.gradcheck(functions[name], (positive, negative))
