"""The fused loss is the plain one: same value, same gradients, less memory."""

from __future__ import annotations

import pytest
import torch

from tasks.training import losses
from tasks.training.fused_cross_entropy import linear_cross_entropy

T, D, V = 13, 5, 9


def inputs(dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(T, D, dtype=dtype, generator=generator) * scale
    weight = torch.randn(V, D, dtype=dtype, generator=generator)
    bias = torch.randn(V, dtype=dtype, generator=generator)
    targets = torch.randint(1, V, (T,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), targets


def plain(hidden, weight, bias, targets, smoothing=0.0):
    logits = hidden @ weight.T
    return losses.cross_entropy(logits if bias is None else logits + bias, targets, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chunk_elements", [1, V * 4, V * T, 10**6])
def test_value_and_gradients_equal_the_plain_loss(chunk_elements, with_bias, smoothing):
    results = []
    for fused in (True, False):
        hidden, weight, bias, targets = inputs()
        bias = bias if with_bias else None
        if fused:
            loss = linear_cross_entropy(
                hidden,
                weight,
                bias,
                targets,
                label_smoothing=smoothing,
                chunk_elements=chunk_elements,
            )
        else:
            loss = plain(hidden, weight, bias, targets, smoothing)
        (2.5 * loss).backward()  # a scale from outside has to reach the gradients
        results.append([loss, hidden.grad, weight.grad, *([bias.grad] if with_bias else [])])
    for fused, expected in zip(*results, strict=True):
        torch.testing.assert_close(fused, expected, rtol=1e-10, atol=1e-12)


def test_padding_column_takes_no_part():
    hidden, weight, bias, targets = inputs()
    with torch.no_grad():
        weight[0] = 50.0
    loss = linear_cross_entropy(hidden, weight, bias, targets)
    torch.testing.assert_close(loss, plain(hidden, weight, bias, targets))
    loss.backward()
    assert (weight.grad[0] == 0).all()
    assert bias.grad[0] == 0


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_huge_scores_stay_finite_in_float32(scale):
    hidden, weight, _, targets = inputs(torch.float32, scale)
    loss = linear_cross_entropy(hidden, weight, None, targets)
    loss.backward()
    assert loss.isfinite()
    torch.testing.assert_close(loss, plain(hidden, weight, None, targets))
    assert hidden.grad.isfinite().all()
    assert weight.grad.isfinite().all()


def test_gradcheck():
    hidden, weight, bias, targets = inputs()

    def loss(h, w, b):
        return linear_cross_entropy(h, w, b, targets, chunk_elements=V * 4)

    assert torch.autograd.gradcheck(loss, (hidden, weight, bias))


def test_inputs_and_no_grad_are_respected():
    hidden, weight, bias, targets = inputs()
    before = [tensor.detach().clone() for tensor in (hidden, weight, bias)]
    with torch.no_grad():
        value = linear_cross_entropy(hidden, weight, bias, targets)
    assert not value.requires_grad
    linear_cross_entropy(hidden, weight.detach(), None, targets).backward()
    assert weight.grad is None
    for tensor, copy in zip((hidden, weight, bias), before, strict=True):
        assert torch.equal(tensor, copy)


def test_tied_weight_collects_both_gradients():
    _, weight, _, targets = inputs()
    ids = torch.randint(1, V, (T,), generator=torch.Generator().manual_seed(0))
    linear_cross_entropy(weight[ids], weight, None, targets).backward()
    fused = weight.grad.clone()
    weight.grad = None
    plain(weight[ids], weight, None, targets).backward()
    torch.testing.assert_close(fused, weight.grad)


def test_bf16_autocast_is_close():
    hidden, weight, _, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, None, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(hidden, weight, None, targets), rtol=0.02, atol=0.02)
    assert weight.grad.dtype == torch.float32
