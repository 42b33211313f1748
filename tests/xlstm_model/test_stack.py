"""Stacks: residuals, states across calls, gradients, checkpointing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import XLSTMStack
from xlstm_model.state import detach_state, replace_samples, reset_state


def _outputs_of_steps(stack: XLSTMStack, x: torch.Tensor):
    state = stack.initial_state(x.shape[0])
    outputs = []
    for position in range(x.shape[1]):
        y, state = stack.step(x[:, position], state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 129])
def test_odd_lengths_and_length_one(length, make_stack):
    stack = make_stack("ms", chunk_size=64)
    x = torch.randn(1, length, 8, dtype=torch.float64)
    torch.testing.assert_close(stack(x)[0], _outputs_of_steps(stack, x)[0], atol=1e-10, rtol=0)


def test_states_persist_across_batches_until_reset(make_stack):
    stack = make_stack("msm")
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    fresh, state = stack(x)
    continued, _ = stack(x, state=state)
    assert (continued - fresh).abs().amax(dim=(1, 2)).min() > 1e-3
    partly, _ = stack(x, state=reset_state(state, torch.tensor([False, True, False])))
    torch.testing.assert_close(partly[1], fresh[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(partly[[0, 2]], continued[[0, 2]], atol=1e-12, rtol=0)


def test_learned_initial_state_is_trained_and_restored_on_reset(make_stack):
    stack = make_stack("ms", learned_initial_state=True)
    with torch.no_grad():  # large enough for the normaliser to rise above its floor of 1
        stack.blocks[0].recurrence.initial_n.mul_(100)
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    fresh, state = stack(x)
    (fresh * torch.randn_like(fresh)).sum().backward()
    learned = [n for n, _ in stack.named_parameters() if "initial_" in n]
    assert len(learned) == 5
    assert all(p.grad.abs().sum() > 0 for n, p in stack.named_parameters() if n in learned)
    again = replace_samples(state, stack.initial_state(2), torch.tensor([True, False]))
    torch.testing.assert_close(stack(x, state=again)[0][0], fresh[0])


def test_truncated_backpropagation_stops_at_a_detached_state(make_stack):
    stack = make_stack("ms")
    first = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    second = torch.randn(1, 3, 8, dtype=torch.float64)
    _, state = stack(first)
    stack(second, state=detach_state(state))[0].sum().backward()
    assert first.grad is None
    stack(second, state=state)[0].sum().backward()
    assert first.grad.abs().sum() > 0


def _silence(block: nn.Module) -> None:
    """Zero what the block adds to the residual stream."""
    with torch.no_grad():
        if hasattr(block, "proj_down"):
            block.proj_down.weight.zero_()
        else:
            block.head_merge.norm.weight.fill_(-1.0)
        if getattr(block, "feed_forward", None) is not None:
            block.feed_forward.proj_down.weight.zero_()


@pytest.mark.parametrize(
    "settings", [{"pattern": "msm"}, {"pattern": "mmm", "mlstm_block": "large"}]
)
def test_residual_accumulates(settings, make_stack):
    stack = make_stack(**settings)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    silenced = stack.blocks[1]
    _silence(silenced)
    assert torch.equal(silenced(x)[0], x)
    first = stack.blocks[0](x)[0]
    third = stack.blocks[2](first)[0]
    torch.testing.assert_close(stack(x)[0], stack.norm(third), atol=1e-12, rtol=0)
    for block in stack.blocks:
        _silence(block)
    assert torch.equal(stack(x)[0], stack.norm(x))


def test_gradients_reach_every_parameter_through_12_blocks():
    torch.manual_seed(0)
    stack = XLSTMStack(16, "ms", num_blocks=12, num_heads=2)
    y, _ = stack(torch.randn(4, 10, 16))
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in stack.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("checkpointed", ["published", "large"])
def test_gradient_checkpointing_changes_nothing_but_memory(checkpointed, make_stack):
    pattern = "msm" if checkpointed == "published" else "mm"
    plain = make_stack(pattern, mlstm_block=checkpointed, dropout=0.3)
    saving = make_stack(pattern, mlstm_block=checkpointed, dropout=0.3, gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    results, saved = [], []
    for stack in (plain, saving):
        torch.manual_seed(1)
        count = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, c=count: c.append(t.numel()) or t, lambda t: t
        ):
            y, _ = stack(x, mask=mask)
        saved.append(sum(count))
        y.square().sum().backward()
        results.append([y] + [p.grad for p in stack.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    assert saved[1] < saved[0] / 3


def test_dropout_schedule_rises_with_depth():
    linear = XLSTMStack(8, "msm", num_heads=2, dropout=0.3, dropout_schedule="linear")
    constant = XLSTMStack(8, "msm", num_heads=2, dropout=0.3)
    assert [b.dropout.p for b in linear.blocks] == pytest.approx([0.1, 0.2, 0.3])
    assert [b.dropout.p for b in constant.blocks] == [0.3] * 3
    linear.eval()
    x = torch.randn(1, 4, 8)
    assert torch.equal(linear(x)[0], linear(x)[0])


def test_training_reduces_the_loss():
    torch.manual_seed(0)
    stack = XLSTMStack(8, "ms", num_heads=2)
    x = torch.randn(16, 8, 8)
    target = x.roll(1, dims=1)
    optimizer = torch.optim.Adam(stack.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = nn.functional.mse_loss(stack(x)[0][:, 1:], target[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
