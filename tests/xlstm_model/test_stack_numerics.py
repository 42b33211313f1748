"""No NaN and no infinity, whatever the gates, the length and the precision."""

from __future__ import annotations

import pytest
import torch

from xlstm_model import XLSTMStack
from xlstm_model.state import named_tensors, reset_state


def _with_gates(pattern: str, size: float) -> XLSTMStack:
    """A float32 stack whose input and forget gate pre-activations are near ±size."""
    torch.manual_seed(0)
    stack = XLSTMStack(8, pattern, num_heads=2)
    with torch.no_grad():
        for block in stack.blocks:
            if hasattr(block, "igate"):
                block.igate.bias.copy_(torch.tensor([size, -size]))
                block.fgate.bias.copy_(torch.tensor([-size, size]))
            else:
                signs = torch.tensor([1.0, -1.0]).repeat(4)[: block.head_dim]
                block.recurrence.bias[:, 0] = size * signs
                block.recurrence.bias[:, 1] = -size * signs
    return stack


def _finite(tensors) -> bool:
    return all(torch.isfinite(t).all() for t in tensors)


@pytest.mark.parametrize("size", [50.0, -100.0, 500.0])
@pytest.mark.parametrize("pattern", ["m", "s", "ms"])
def test_large_gates_with_some_samples_reset(pattern, size):
    stack = _with_gates(pattern, size)
    x = torch.randn(3, 40, 8)
    _, state = stack(x)
    state = reset_state(state, torch.tensor([True, False, True]))
    y, state = stack(x, state=state)
    y.square().sum().backward()
    assert _finite([y, *(p.grad for p in stack.parameters())])
    assert not any(t.isnan().any() for _, t in named_tensors(state))


@pytest.mark.parametrize("pattern", ["m", "s"])
@pytest.mark.parametrize(
    ("precision", "size"), [("float32", 100.0), ("bfloat16", 0.0), ("autocast", 100.0)]
)
def test_a_sequence_of_4096_forward_and_backward(pattern, size, precision):
    stack = _with_gates(pattern, size) if size else XLSTMStack(8, pattern, num_heads=2)
    x = torch.randn(1, 4096, 8)
    if precision == "bfloat16":
        stack, x = stack.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        y, _ = stack(x)
    y.float().square().sum().backward()
    assert _finite([y, *(p.grad for p in stack.parameters())])


@pytest.mark.parametrize("pattern", ["m", "s"])
def test_states_keep_their_precision_in_bfloat16(pattern):
    stack = XLSTMStack(8, pattern, num_heads=2).bfloat16()
    y, state = stack(torch.randn(2, 5, 8).bfloat16())
    assert y.dtype == torch.bfloat16
    assert {t.dtype for n, t in named_tensors(state) if ".cell." in n} == {torch.float32}
    fresh = stack.initial_state(2)
    for (name, a), (_, b) in zip(named_tensors(state), named_tensors(fresh), strict=True):
        assert a.dtype == b.dtype, name
    y, after = stack.step(torch.randn(2, 8).bfloat16(), state)
    assert y.dtype == torch.bfloat16
    for (name, a), (_, b) in zip(named_tensors(state), named_tensors(after), strict=True):
        assert a.dtype == b.dtype, name


def test_float32_is_within_1e_5_of_float64(make_stack):
    stack = make_stack("msm")
    x = torch.randn(2, 70, 8, dtype=torch.float64)
    exact, _ = stack(x)
    rough, _ = stack.float()(x.float())
    torch.testing.assert_close(rough.double(), exact, atol=1e-5 * exact.abs().max().item(), rtol=0)
