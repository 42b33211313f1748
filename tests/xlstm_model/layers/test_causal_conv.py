"""CausalConv1d: its sum, its state, padding anywhere, kernel 1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from xlstm_model.layers import CausalConv1d

KERNELS = [1, 2, 4]


def _conv(kernel_size, channels=3):
    torch.manual_seed(0)
    return CausalConv1d(channels, kernel_size).double()


def _draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("length", [1, 2, 9])
def test_equals_the_sum_over_taps(kernel_size, length):
    conv, x = _conv(kernel_size), _draw(2, length, 3)
    y, state = conv(x)
    for t in range(length):
        expected = conv.bias.clone()
        for j in range(kernel_size):
            past = t - (kernel_size - 1) + j
            if past >= 0:
                expected = expected + conv.weight[:, 0, j] * x[:, past]
        torch.testing.assert_close(y[:, t], expected.expand(2, 3))
    assert state.shape == (2, kernel_size - 1, 3)


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_pieces_and_steps_equal_the_whole(kernel_size):
    conv, x = _conv(kernel_size), _draw(2, 9, 3)
    whole, end = conv(x)
    first, state = conv(x[:, :2])
    outputs = [first]
    for t in range(2, 6):
        before = state.clone()
        y, after = conv.step(x[:, t], state)
        assert torch.equal(state, before)
        outputs.append(y.unsqueeze(1))
        state = after
    last, state = conv(x[:, 6:], state=state)
    torch.testing.assert_close(torch.cat([*outputs, last], 1), whole)
    torch.testing.assert_close(state, end)


@settings(max_examples=60, deadline=None)
@given(
    kernel_size=st.integers(1, 5),
    length=st.integers(1, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
    started=st.booleans(),
)
def test_padding_anywhere_is_as_if_it_were_not_there(kernel_size, length, share, seed, started):
    rng = torch.Generator().manual_seed(seed)
    conv, x = _conv(kernel_size), torch.randn(3, length, 3, generator=rng, dtype=torch.float64)
    mask = torch.rand(3, length, generator=rng) < share
    state = conv(_draw(3, 6, 3))[1] if started else None
    dirty = torch.where(mask.unsqueeze(-1), x, float("nan"))
    y, end = conv(dirty, mask, state)
    assert torch.equal(y[~mask], torch.zeros_like(y[~mask]))
    for b in range(3):
        own = conv.initial_state(1) if state is None else state[b : b + 1]
        if not mask[b].any():
            assert torch.equal(end[b], own[0])
            continue
        expected, expected_end = conv(x[b : b + 1, mask[b]], state=own)
        torch.testing.assert_close(y[b, mask[b]], expected[0])
        torch.testing.assert_close(end[b], expected_end[0])


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(kernel_size, masked):
    conv = _conv(kernel_size)
    x, state = _draw(2, 5, 3).requires_grad_(), _draw(2, kernel_size - 1, 3).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1]], dtype=torch.bool) if masked else None

    def run(x, state, weight, bias):
        own = {"weight": weight, "bias": bias}
        return torch.func.functional_call(conv, own, (x, mask, state))

    assert gradcheck(run, (x, state, conv.weight, conv.bias))


def test_gradients_do_not_see_what_stands_in_padding():
    conv = _conv(4)
    mask = torch.tensor([[True, False, True, True, False]])
    x = torch.where(mask.unsqueeze(-1), _draw(1, 5, 3), float("nan")).requires_grad_()
    conv(x, mask)[0].sum().backward()
    assert x.grad.isfinite().all()
    assert torch.equal(x.grad[~mask], torch.zeros(2, 3, dtype=torch.float64))
    assert conv.weight.grad.isfinite().all()


def test_no_position_sees_its_future():
    conv, x = _conv(4), _draw(1, 9, 3)
    changed = x.clone()
    changed[:, 5:] += 100.0
    assert torch.equal(conv(x)[0][:, :5], conv(changed)[0][:, :5])


def test_kernel_1_is_a_scale_per_channel():
    conv, x = _conv(1), _draw(2, 4, 3)
    torch.testing.assert_close(conv(x)[0], x * conv.weight[:, 0, 0] + conv.bias)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((3, 0), "kernel_size is 0; expected at least 1"), ((0, 4), "channels is 0")],
)
def test_says_which_size_is_out_of_range(sizes, message):
    with pytest.raises(ValueError, match=message):
        CausalConv1d(*sizes)
