"""A block's step in one compiled call against the same step in its layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import XLSTMStack
from xlstm_model.blocks import compiled_steps
from xlstm_model.blocks.plain import is_plain
from xlstm_model.native import library
from xlstm_model.state import named_tensors

needs_kernels = pytest.mark.skipif(
    library.load_library() is None,
    reason="the compiled kernels are absent; run `python -m xlstm_model.native.build`",
)

SETTINGS = {
    "published": {},
    "sigmoid gate": {"gate": "sigmoid"},
    "no norm": {"norm": False},
    "no convolution": {"convolution": False},
    "no residual": {"residual": False},
    "one tap": {"conv_kernel": 1},
    "two taps": {"conv_kernel": 2},
    "all gates convolved": {"slstm_conv_gates": "ifzo"},
    "no feed-forward": {"slstm_feed_forward": False},
    "eps": {"eps": 1e-3},
    "more heads": {"num_heads": 4},
}


def _stack(pattern, **settings):
    torch.manual_seed(0)
    stack = XLSTMStack(20, pattern, **({"num_heads": 2} | settings)).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return stack


def _called(monkeypatch):
    """Names of the kernels that run from here on."""
    names, call = [], library.call
    monkeypatch.setattr(
        library,
        "call",
        lambda name, *more, **named: (names.append(name), call(name, *more, **named)),
    )
    return names


@needs_kernels
@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("pattern", ["m", "s"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_equals_the_layers(pattern, settings, width, monkeypatch):
    library.load_library().xlstm_restrict_vectors(width)
    stack, x = _stack(pattern, **settings), torch.randn(5, 6, 20)
    _, before = stack(x[:, :5])
    copy = [t.clone() for _, t in named_tensors(before)]
    names = _called(monkeypatch)
    y, after = stack.step(x[:, 5], before)
    assert names == [f"{pattern}lstm_block_step"]
    with library.disabled():
        expected, expected_after = stack.step(x[:, 5], before)
    torch.testing.assert_close(y, expected, atol=5e-5, rtol=5e-5)
    for (name, a), (_, b) in zip(named_tensors(after), named_tensors(expected_after), strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=5e-5, msg=name)
    for (name, t), kept in zip(named_tensors(before), copy, strict=True):
        assert torch.equal(t, kept), name


@needs_kernels
@torch.no_grad()
def test_threads_and_strides_change_nothing():
    stack = _stack("ms")
    x = torch.randn(20, 2, 70).permute(2, 1, 0)
    _, before = stack(torch.randn(70, 3, 20))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(stack.step(x[:, 0], before)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


class _Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _hook(block):
    block.proj_up.register_forward_hook(lambda module, args, output: 2 * output)


def _swap(block):
    block.proj_up.__class__ = _Twice


def _patch(block):
    forward = block.proj_up.forward
    block.proj_up.forward = lambda x: 2 * forward(x)


@needs_kernels
@pytest.mark.parametrize("change", [_hook, _swap, _patch])
@torch.no_grad()
def test_what_is_put_in_place_of_a_layer_runs(change):
    stack, x = _stack("m"), torch.randn(2, 20)
    before = stack.initial_state(2)
    plain = stack.step(x, before)[0]
    doubled = _stack("m")
    doubled.blocks[0].proj_up.weight.mul_(2)
    change(stack.blocks[0])
    changed = stack.step(x, before)[0]
    torch.testing.assert_close(changed, doubled.step(x, before)[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(changed, plain)


@needs_kernels
def test_gradients_and_dropout_go_through_the_layers(monkeypatch):
    stack, x = _stack("ms", dropout=0.5), torch.randn(2, 20)
    before = stack.initial_state(2)
    names = _called(monkeypatch)
    stack.step(x, before)[0].sum().backward()
    assert stack.blocks[0].proj_up.weight.grad is not None
    with torch.no_grad():
        stack.train().step(x, before)
    assert not any("block" in name for name in names)


@torch.no_grad()
def test_wrong_shapes_are_left_to_the_layers():
    stack = _stack("m")
    block, state = stack.blocks[0], stack.initial_state(2)[0]
    assert compiled_steps.mlstm_block_step(block, torch.zeros(3, 20), state) is None
    assert compiled_steps.mlstm_block_step(block, torch.zeros(2, 20).double(), state) is None


def test_a_subclass_is_not_plain():
    assert is_plain(nn.Linear(2, 2), nn.Linear)
    assert not is_plain(_Twice(2, 2), nn.Linear)
