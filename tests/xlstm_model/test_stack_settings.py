"""Sizes and settings of stacks: what is taken and what is refused."""

from __future__ import annotations

import pytest
import torch

from xlstm_model import XLSTMStack


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
    with pytest.raises(ValueError, match="state holds 1 samples; expected 2"):
        stack(x, state=stack.initial_state(1))
    with pytest.raises(ValueError, match="state holds 3 samples; expected 2"):
        stack.step(x[:, 0], stack.initial_state(3))
    with pytest.raises(TypeError, match=r"num_blocks is 2\.0"):
        XLSTMStack(8, "ms", num_heads=2, num_blocks=2.0)
