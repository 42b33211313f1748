"""Stacks: residuals, states, gradients, settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import XLSTMStack
from xlstm_model.state import detach_state, map_state, named_tensors, replace_samples, reset_state


def _stack(pattern: str = "ms", dim: int = 8, **settings) -> XLSTMStack:
    """A float64 stack whose every parameter is away from its special initial value."""
    torch.manual_seed(0)
    stack = XLSTMStack(dim, pattern, **{"num_heads": 2} | settings).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stack


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
def stack(request) -> XLSTMStack:
    return _stack(**request.param)


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


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 129])
def test_odd_lengths_and_length_one(length):
    stack = _stack("ms", chunk_size=64)
    x = torch.randn(1, length, 8, dtype=torch.float64)
    torch.testing.assert_close(stack(x)[0], _outputs_of_steps(stack, x)[0], atol=1e-10, rtol=0)


def test_states_persist_across_batches_until_reset():
    stack = _stack("msm")
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    fresh, state = stack(x)
    continued, _ = stack(x, state=state)
    assert (continued - fresh).abs().amax(dim=(1, 2)).min() > 1e-3
    partly, _ = stack(x, state=reset_state(state, torch.tensor([False, True, False])))
    torch.testing.assert_close(partly[1], fresh[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(partly[[0, 2]], continued[[0, 2]], atol=1e-12, rtol=0)


def test_learned_initial_state_is_trained_and_restored_on_reset():
    stack = _stack("ms", learned_initial_state=True)
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


def test_truncated_backpropagation_stops_at_a_detached_state():
    stack = _stack("ms")
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
def test_residual_accumulates(settings):
    stack = _stack(**settings)
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
def test_gradient_checkpointing_changes_nothing_but_memory(checkpointed):
    pattern = "msm" if checkpointed == "published" else "mm"
    plain = _stack(pattern, mlstm_block=checkpointed, dropout=0.3)
    saving = _stack(pattern, mlstm_block=checkpointed, dropout=0.3, gradient_checkpointing=True)
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


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("pattern", ["m", "s", "ms"])
def test_tiny_dimensions_work(dim, pattern):
    stack = XLSTMStack(dim, pattern, num_heads=1)
    y, _ = stack(torch.randn(2, 5, dim))
    y.sum().backward()
    assert y.shape == (2, 5, dim)
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())


def test_head_size_one_learns():
    stack = XLSTMStack(4, "s", num_heads=4)
    y, _ = stack(torch.randn(2, 5, 4))
    (y * torch.randn_like(y)).sum().backward()
    assert torch.isfinite(stack.blocks[0].recurrence.bias).all()
    assert stack.blocks[0].raw_gates.weight.grad.abs().max() > 0


REFUSED = [
    ({"pattern": ""}, "pattern is ''"),
    ({"pattern": "mx"}, "pattern is 'mx'"),
    ({"pattern": "0:0"}, "pattern is '0:0'"),
    ({"num_blocks": 3}, "num_blocks is 3; expected a positive multiple of 2"),
    ({"num_heads": 3}, "num_heads is 3; expected a divisor of"),
    ({"num_heads": 0}, "num_heads is 0"),
    ({"conv_kernel": 0}, "conv_kernel is 0; expected at least 1"),
    ({"embedding_dim": 0}, "embedding_dim is 0"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"dropout_schedule": "cosine"}, "dropout_schedule is 'cosine'"),
    ({"gate": "relu"}, "gate is 'relu'"),
    ({"slstm_conv_gates": "zo"}, "conv_gates is 'zo'"),
    ({"slstm_cell": "gru"}, "cell is 'gru'"),
    ({"slstm_cell": "rnn"}, "cell is 'rnn' with conv_gates 'if'"),
    ({"slstm_fgate_bias": "ones"}, "fgate_bias is 'ones'"),
    ({"slstm_feed_forward_factor": 0.0}, "factor is 0.0"),
    ({"mlstm_form": "serial"}, "form is 'serial'"),
    ({"mlstm_block": "huge"}, "mlstm_block is 'huge'"),
    ({"mlstm_projection_factor": 0.0}, "projection_factor is 0.0"),
    ({"mlstm_qkv_block_size": 5}, "qkv_block_size is 5; expected a divisor of inner_dim = 64"),
    ({"mlstm_normalizer": False}, "normalizer is False with gate 'exp'"),
    ({"chunk_size": 0}, "chunk_size is 0"),
    ({"inner_multiple": 0}, "inner_multiple is 0"),
    ({"eps": -1.0}, "eps is -1.0"),
    ({"mlstm_block": "large", "gate": "sigmoid"}, "gate is 'sigmoid' with mlstm_block 'large'"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        XLSTMStack(**{"embedding_dim": 8, "pattern": "ms", "num_heads": 2} | settings)


def test_wrong_inputs_are_refused_by_name():
    stack = XLSTMStack(8, "ms", num_heads=2)
    x = torch.zeros(2, 3, 8)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 4\)"):
        stack(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"x has shape \(2, 0, 8\)"):
        stack(torch.zeros(2, 0, 8))
    with pytest.raises(TypeError, match=r"mask has dtype torch.int64"):
        stack(x, mask=torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"mask has shape \(2, 4\)"):
        stack(x, mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="state has 1 block states; expected 2"):
        stack(x, state=stack.initial_state(2)[:1])
    with pytest.raises(TypeError, match=r"num_blocks is 2\.0"):
        XLSTMStack(8, "ms", num_heads=2, num_blocks=2.0)
