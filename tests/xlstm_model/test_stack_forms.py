"""What holds for every variant of a stack: forms agree, nothing leaks, padding is nothing."""

from __future__ import annotations

import pytest
import torch

from xlstm_model import XLSTMStack
from xlstm_model.state import map_state, named_tensors


def _outputs_of_steps(stack: XLSTMStack, x: torch.Tensor):
    state = stack.initial_state(x.shape[0])
    outputs = []
    for position in range(x.shape[1]):
        y, state = stack.step(x[:, position], state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


VARIANTS = {
    "published": {},
    "large": {"pattern": "mm", "mlstm_block": "large"},
    "parallel": {"mlstm_form": "parallel"},
    "all gates convolved": {"slstm_conv_gates": "ifzo"},
    "sigmoid gates": {"gate": "sigmoid"},
    "learned initial state": {"learned_initial_state": True},
    "no convolution": {"convolution": False},
    "kernel 1": {"conv_kernel": 1},
    "no normaliser": {"mlstm_normalizer": False, "gate": "sigmoid", "slstm_cell": "lstm"},
    "bare rnn": {
        "pattern": "s",
        "slstm_cell": "rnn",
        "convolution": False,
        "norm": False,
        "residual": False,
        "slstm_feed_forward": False,
    },
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def stack(request, make_stack) -> XLSTMStack:
    return make_stack(**request.param)


def test_steps_equal_the_whole_sequence(stack):
    x = torch.randn(3, 11, 8, dtype=torch.float64)
    whole, state = stack(x)
    stepped, stepped_state = _outputs_of_steps(stack, x)
    torch.testing.assert_close(stepped, whole, atol=1e-10, rtol=0)
    continued, _ = stack.step(x[:, 0], state)
    torch.testing.assert_close(stack.step(x[:, 0], stepped_state)[0], continued)


def test_prefill_then_steps_then_piece_equals_the_whole(stack):
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    whole, _ = stack(x)
    first, state = stack(x[:, :5])
    middle = []
    for position in range(5, 8):
        y, state = stack.step(x[:, position], state)
        middle.append(y)
    last, _ = stack(x[:, 8:], state=state)
    pieces = torch.cat([first, torch.stack(middle, 1), last], 1)
    torch.testing.assert_close(pieces, whole, atol=1e-10, rtol=0)


def test_no_position_sees_its_future(stack):
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, 6:] = torch.randn_like(changed[:, 6:])
    assert torch.equal(stack(x)[0][:, :6], stack(changed)[0][:, :6])
    assert not torch.allclose(stack(x)[0][:, 6:], stack(changed)[0][:, 6:])


def test_samples_of_a_batch_do_not_meet(stack):
    x = torch.randn(4, 7, 8, dtype=torch.float64)
    whole, _ = stack(x)
    for sample in range(4):
        alone, _ = stack(x[sample : sample + 1])
        torch.testing.assert_close(alone, whole[sample : sample + 1], atol=1e-12, rtol=0)


def test_a_call_leaves_nothing_behind(stack):
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    first, _ = stack(x)
    stack(torch.randn_like(x))
    assert torch.equal(stack(x)[0], first)
    assert all(torch.equal(before[name], tensor) for name, tensor in stack.state_dict().items())


def test_step_does_not_change_the_state_it_is_given(stack):
    x = torch.randn(2, 8, dtype=torch.float64)
    _, state = stack(torch.randn(2, 3, 8, dtype=torch.float64))
    copy = map_state(torch.clone, state)
    stack.step(x, state)
    for (name, now), (_, then) in zip(named_tensors(state), named_tensors(copy), strict=True):
        assert torch.equal(now, then), name


def test_gradients_flow_through_steps_as_through_the_whole(stack):
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    weight = torch.randn(2, 6, 8, dtype=torch.float64)
    gradients = []
    for run in (lambda: stack(x)[0], lambda: _outputs_of_steps(stack, x)[0]):
        stack.zero_grad()
        (run() * weight).sum().backward()
        gradients.append({n: p.grad.clone() for n, p in stack.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_output_state_or_gradient(stack, side):
    lengths, total = (5, 1, 8), 8
    x = torch.randn(3, total, 8, dtype=torch.float64)
    position = torch.arange(total)
    mask = torch.stack(
        [position < n if side == "right" else position >= total - n for n in lengths]
    )
    noisy = torch.where(mask[..., None], x, float("nan"))
    padded, state = stack(noisy, mask=mask)
    stack.zero_grad()
    padded[mask].square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in stack.named_parameters()}
    stack.zero_grad()
    for sample, length in enumerate(lengths):
        alone, own = stack(x[sample : sample + 1][:, mask[sample]])
        assert alone.shape[1] == length
        torch.testing.assert_close(padded[sample][mask[sample]], alone[0], atol=1e-10, rtol=0)
        for (name, a), (_, b) in zip(named_tensors(state), named_tensors(own), strict=True):
            torch.testing.assert_close(a[sample], b[0], atol=1e-10, rtol=0, msg=name)
        alone.square().sum().backward()
    assert torch.equal(padded[~mask], torch.zeros_like(padded[~mask]))
    for name, parameter in stack.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-8, rtol=1e-8, msg=name)


def test_wholly_padded_sample_keeps_its_state(stack):
    _, state = stack(torch.randn(2, 4, 8, dtype=torch.float64))
    mask = torch.tensor([[True] * 3, [False] * 3])
    _, after = stack(torch.randn(2, 3, 8, dtype=torch.float64), mask=mask, state=state)
    for (name, old), (_, new) in zip(named_tensors(state), named_tensors(after), strict=True):
        torch.testing.assert_close(new[1], old[1], msg=name, atol=1e-12, rtol=1e-12)
        if name.endswith(("cell.h", "conv")) and old.numel():
            assert not torch.equal(new[0], old[0]), name
