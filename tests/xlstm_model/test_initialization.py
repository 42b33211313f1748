"""Initial values against the authors' package and the published constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlstm_model import XLSTMStack
from xlstm_model.initialization import mlstm_fgate_bias, slstm_fgate_bias


@pytest.mark.parametrize(("block", "depth"), [(b, n) for n in (1, 2, 4) for b in range(n)])
def test_power_law_equals_the_authors(repository: Path, block, depth):
    with np.load(repository / "tests" / "golden" / "authors_blocks.npz") as file:
        expected = torch.from_numpy(file[f"slstm_init.powerlaw.block{block}of{depth}.bias"])
    torch.set_default_dtype(torch.float64)
    try:
        bias = slstm_fgate_bias(2, 8, block, depth)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(bias, expected[:, 1], atol=1e-12, rtol=0)
    assert expected[:, [0, 2, 3]].abs().max() == 0


def test_power_law_has_no_zero_over_zero():
    assert slstm_fgate_bias(3, 1, 0, 1).tolist() == [[5.0]] * 3
    assert torch.isfinite(slstm_fgate_bias(1, 2, 0, 1)).all()


def test_one_head_gets_the_lower_forget_bias():
    assert mlstm_fgate_bias(1).tolist() == [3.0]


def test_a_stack_starts_from_the_published_values():
    torch.manual_seed(0)
    stack = XLSTMStack(32, "ms", num_blocks=4, num_heads=4)
    m, s = stack.blocks[2], stack.blocks[3]
    assert m.igate.weight.abs().max() == 0
    assert m.fgate.weight.abs().max() == 0
    assert m.fgate.bias.tolist() == [3.0, 4.0, 5.0, 6.0]
    assert 0 < m.igate.bias.abs().max() < 0.5
    assert s.recurrence.recurrent_weight.abs().max() == 0
    assert torch.equal(s.recurrence.bias[:, 1], slstm_fgate_bias(4, 8, 3, 4))
    assert s.recurrence.bias[:, [0, 2, 3]].abs().max() == 0
    assert m.proj_up.weight.std().item() == pytest.approx((2 / 5 / 32) ** 0.5, rel=0.05)
    assert m.q_proj.weight.std().item() == pytest.approx((2 / 5 / 32) ** 0.5, rel=0.2)
    assert m.proj_down.weight.std().item() == pytest.approx(2 / 4 / 32**0.5, rel=0.05)
    assert s.raw_gates.weight.std().item() == pytest.approx((2 / 5 / 32) ** 0.5, rel=0.2)


def test_zero_forget_bias_is_a_setting():
    stack = XLSTMStack(8, "s", num_heads=2, slstm_fgate_bias="zeros")
    assert stack.blocks[0].recurrence.bias.abs().max() == 0


def test_the_7b_style_block_starts_closed():
    block = XLSTMStack(8, "m", mlstm_block="large", num_heads=2).blocks[0]
    assert block.igate.bias.tolist() == [-10.0, -10.0]
    assert block.fgate.bias.tolist() == [3.0, 6.0]
