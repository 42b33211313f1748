"""Defects seen in public xLSTM implementations, each made impossible by one test here.

Every test is named after what was seen; the docstring says where.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from xlstm_model import XLSTMStack, lengths_to_mask
from xlstm_model.blocks import MLSTMBlock, SLSTMBlock
from xlstm_model.cells import (
    mlstm_chunkwise,
    mlstm_parallel,
    slstm_sequence,
)
from xlstm_model.state import named_tensors


def _x(batch=3, seq_len=9, dim=8):
    return torch.randn(batch, seq_len, dim, dtype=torch.float64)


def _mlstm_inputs(batch=1, heads=2, seq_len=6, dim=4, dtype=torch.float64):
    q, k, v = (torch.randn(batch, heads, seq_len, dim, dtype=dtype) for _ in range(3))
    gates = (torch.randn(batch, heads, seq_len, dtype=dtype) for _ in range(2))
    return q, k, v, *gates


def _slstm_inputs(batch=2, seq_len=6, heads=2, dim=4, dtype=torch.float64):
    gates = torch.randn(batch, seq_len, 4, heads, dim, dtype=dtype)
    weight = 0.3 * torch.randn(heads, dim, 4, dim, dtype=dtype)
    return gates, weight, torch.randn(heads, 4, dim, dtype=dtype)


class TestXlstmPytorchAndXlstm4rec:
    """``styalai/xLSTM-pytorch``, the code a review started from, and XLSTM4Rec after it."""

    def test_future_does_not_leak_into_the_past(self, make_stack):
        """Outputs moved by 0.6 to 1.3 standard deviations with the future."""
        stack, x = make_stack(), _x()
        changed = x.clone()
        changed[:, 5:] += 3 * torch.randn_like(changed[:, 5:])
        before, after = stack(x)[0], stack(changed)[0]
        assert torch.equal(before[:, :5], after[:, :5])
        assert (before[:, 5:] - after[:, 5:]).abs().amin(1).gt(0).all()

    def test_nothing_is_averaged_over_the_batch(self, make_stack):
        """A sample's output depended on who else was in the batch."""
        stack, x = make_stack(), _x()
        crowd = torch.cat([x[:1], 100 * torch.randn(5, 9, 8, dtype=x.dtype)])
        torch.testing.assert_close(stack(crowd)[0][:1], stack(x[:1])[0], atol=1e-12, rtol=0)

    def test_nothing_is_averaged_over_time(self, make_stack):
        """A position's output depended on how long the sequence went on."""
        stack, x = make_stack(), _x()
        torch.testing.assert_close(stack(x[:, :4])[0], stack(x)[0][:, :4], atol=1e-12, rtol=0)

    def test_no_state_is_kept_between_calls(self, make_stack):
        """The same input drifted by 1.2 to 2.5 over calls; nothing of a call may stay."""
        stack, x = make_stack(), _x()
        first = stack(x)[0]
        for _ in range(3):
            assert torch.equal(stack(x)[0], first)
        assert not list(stack.buffers())

    def test_slstm_gives_each_sample_and_position_its_own_vector(self, make_stack):
        """The sLSTM's output was one vector for the whole batch."""
        block = make_stack("s").blocks[0]
        y, _ = block(_x())
        assert torch.cdist(y.flatten(0, 1), y.flatten(0, 1)).add(torch.eye(27)).min() > 1e-3

    def test_states_are_per_sample_whatever_the_inner_size(self, make_stack):
        """States had the shape (1, 1, D) and the wrong D where inner and outer size differ."""
        for pattern, inner in (("m", 64), ("s", 8)):
            stack = make_stack(pattern)
            _, state = stack(_x(batch=5))
            assert {t.shape[0] for _, t in named_tensors(state)} == {5}
            assert state[0].conv.shape == (5, 3, inner)

    def test_a_block_gets_the_previous_blocks_output(self, make_stack):
        """Every block added the stack's first input instead of its own."""
        stack, x = make_stack("mmm"), _x()
        y = x
        for block in stack.blocks:
            y = block(y)[0]
        torch.testing.assert_close(stack(x)[0], stack.norm(y), atol=1e-12, rtol=0)

    def test_published_gates_read_what_they_should(self):
        """Gates mixed convolved and raw input by accident; here by a setting, as it says."""
        for gates, raw in (("if", True), ("ifzo", False)):
            block = SLSTMBlock(8, num_heads=2, conv_gates=gates)
            assert (block.raw_gates is not None) is raw
            with torch.no_grad():
                block.conv.weight.zero_()
                block.conv.bias.zero_()
            one, other = torch.randn(2, 1, 4, 8).unbind(0)
            reads_raw = not torch.equal(block(one)[0] - one, block(other)[0] - other)
            cell = block(one)[1].cell.c, block(other)[1].cell.c
            assert torch.equal(*cell) is not raw
            assert reads_raw

    @pytest.mark.parametrize("kernel", [1, 2, 4])
    def test_kernel_one_and_small_dimensions_run(self, kernel, make_stack):
        """Kernel 1 sliced everything away and dimensions below 8 made kernels of size 0."""
        for dim in (1, 2, 7):
            stack = make_stack("ms", dim=dim, num_heads=1, conv_kernel=kernel)
            assert stack(_x(dim=dim))[0].shape == (3, 9, dim)


class TestPyxlstm:
    """``pyxlstm`` 1.0.1 and 2.0.0."""

    @pytest.mark.parametrize("pattern", ["m", "s"])
    def test_one_layer_runs_its_recurrence(self, pattern, make_stack):
        """With one layer no recurrence ran at all."""
        stack = make_stack(pattern, convolution=False)
        x = _x(batch=1)
        earlier = x.clone()
        earlier[:, 0] += torch.randn(8, dtype=x.dtype)
        assert (stack(x)[0][:, -1] - stack(earlier)[0][:, -1]).abs().max() > 1e-6

    def test_mlstm_is_finite_from_the_second_position_on(self):
        """NaN from t = 2."""
        h, _ = mlstm_chunkwise(*_mlstm_inputs(seq_len=50))
        assert torch.isfinite(h).all()

    def test_slstm_has_normaliser_and_stabiliser(self):
        """Without n and m its gradients were NaN."""
        gates, weight, bias = _slstm_inputs(seq_len=20, dtype=torch.float32)
        gates = (gates * 60).requires_grad_()
        h, state = slstm_sequence(gates, weight, bias)
        h.sum().backward()
        assert torch.isfinite(h).all()
        assert torch.isfinite(gates.grad).all()
        assert set(state._fields) == {"h", "c", "n", "m"}


class TestTorchxlstm:
    """``torchxlstm``."""

    def test_normaliser_does_not_mix_samples(self):
        """The normaliser was taken over the batch (0.38)."""
        inputs = _mlstm_inputs(batch=4)
        whole, _ = mlstm_parallel(*inputs)
        alone, _ = mlstm_parallel(*(t[2:3] for t in inputs))
        torch.testing.assert_close(whole[2:3], alone, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("size", [50, 100, 500])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_large_gates_are_finite_forward_and_backward(self, size, sign):
        """NaN at gate pre-activations of ±50."""
        q, k, v, igate, _ = (t.float() for t in _mlstm_inputs(seq_len=30))
        gates = [torch.full_like(igate, s * size).requires_grad_() for s in (sign, -sign)]
        for form in (mlstm_parallel, mlstm_chunkwise):
            h, _ = form(q, k, v, *gates)
            gradients = torch.autograd.grad(h.sum(), gates)
            assert torch.isfinite(h).all()
            assert all(torch.isfinite(g).all() for g in gradients)

    def test_padding_changes_no_valid_output(self, make_stack):
        """Padding moved valid outputs by 0.63."""
        stack, x = make_stack(), _x()
        mask = lengths_to_mask(torch.tensor([9, 4, 1]), 9)
        garbage = torch.where(mask[..., None], x, 1e6 * torch.randn_like(x))
        assert torch.equal(stack(x, mask=mask)[0], stack(garbage, mask=mask)[0])
        torch.testing.assert_close(
            stack(garbage, mask=mask)[0][1, :4], stack(x[1:2, :4])[0][0], atol=1e-12, rtol=0
        )


class TestXlstmTorch:
    """``xlstm-torch``."""

    def test_import_runs_nothing(self, repository):
        """Importing ran demo code, which raised."""
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import xlstm_model"],
            cwd=repository,
            capture_output=True,
            check=True,
        )
        assert result.stdout == result.stderr == b""

    @pytest.mark.parametrize("batch", [1, 2, 7])
    def test_any_batch_size_runs(self, batch, make_stack):
        """Any batch above 1 failed."""
        assert make_stack()(_x(batch=batch))[0].shape == (batch, 9, 8)


class TestMyscienceXLstm:
    """``myscience/x-lstm``."""

    @pytest.mark.parametrize("gates", ["if", "ifzo"])
    def test_slstms_convolution_is_used(self, gates, make_stack):
        """The sLSTM's convolution was computed and never read."""
        block = make_stack("s", slstm_conv_gates=gates).blocks[0]
        block(_x())[0].sum().backward()
        assert block.conv.weight.grad.abs().max() > 0

    def test_dimension_one_runs(self, make_stack):
        """Dimension 1 failed."""
        assert torch.isfinite(make_stack("ms", dim=1, num_heads=1)(_x(dim=1))[0]).all()


class TestPytorchForecasting:
    """The mLSTM of ``pytorch-forecasting``."""

    def test_mlstm_output_depends_on_its_input(self):
        """Keys were normed to sum to zero, so the output was 1e-6 whatever the input."""
        block = MLSTMBlock(8, num_heads=2, residual=False)
        one, other = block(torch.randn(1, 6, 8))[0], block(torch.randn(1, 6, 8))[0]
        assert (one - other).abs().max() > 1e-2 * one.abs().max()

    def test_every_projection_is_used(self, make_stack):
        """The query weight was never read."""
        stack = make_stack("ms")
        (stack(_x())[0] * _x()).sum().backward()
        unused = [n for n, p in stack.named_parameters() if p.grad.abs().max() == 0]
        assert unused == []


class TestTransformers:
    """xLSTM in ``transformers``."""

    @pytest.mark.parametrize("dim", [4, 12, 16])
    def test_states_have_the_models_sizes(self, dim):
        """The cache rounded sizes up to 64, wrong at dimension 16."""
        stack = XLSTMStack(dim, "m", mlstm_block="large", num_heads=2, mlstm_form="chunkwise")
        x = torch.randn(2, 5, dim)
        _, state = stack(x)
        shapes = [t.shape for _, t in named_tensors(state)]
        assert shapes == [t.shape for _, t in named_tensors(stack.initial_state(2))]
        assert state[0].c.shape == (2, 2, dim // 4, dim // 2)

    def test_mask_is_obeyed(self, make_stack):
        """The attention mask was accepted and ignored."""
        stack, x = make_stack("mm", mlstm_block="large"), _x()
        mask = lengths_to_mask(torch.tensor([9, 4, 1]), 9)
        left, left_mask = x.flip(1), mask.flip(1)
        padded = stack(left, mask=left_mask)[0]
        torch.testing.assert_close(padded[1, 5:], stack(left[1:2, 5:])[0][0], atol=1e-12, rtol=0)

    def test_backward_runs_with_default_settings(self):
        """Backward failed with the default cache."""
        stack = XLSTMStack(8, num_heads=2)
        _, state = stack(torch.randn(2, 3, 8))
        stack(torch.randn(2, 3, 8), state=state)[0].sum().backward()
        assert all(p.grad is not None for p in stack.parameters())
