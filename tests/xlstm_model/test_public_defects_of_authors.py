"""Limits seen in the authors' own packages, each made impossible by one test here.

Every test is named after what was seen; the docstring says where.
"""

from __future__ import annotations

import io

import pytest
import torch

from xlstm_model import SequenceRecommender, XLSTMStack
from xlstm_model.cells import (
    MLSTMState,
    SLSTMState,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_step,
    slstm_sequence,
    slstm_step,
)
from xlstm_model.state import map_state, named_tensors, reset_state


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


class TestAuthorsPackage:
    """``xlstm`` 2.0.6."""

    def test_kernel_one_runs_and_kernel_zero_is_refused(self, make_stack):
        """Kernels 1 and 0 crashed inside."""
        assert make_stack(conv_kernel=1)(_x())[0].shape == (3, 9, 8)
        with pytest.raises(ValueError, match="conv_kernel is 0; expected at least 1"):
            make_stack(conv_kernel=0)

    def test_no_length_is_too_long(self, make_stack):
        """Longer than ``context_length`` raised, and its default crashed."""
        stack = make_stack("ms")
        assert stack(_x(batch=1, seq_len=700))[0].shape == (1, 700, 8)

    def test_head_size_one_is_finite_and_learns(self, make_stack):
        """Head size 1 gave NaN in the initial bias."""
        stack = make_stack("s", num_heads=8)
        y, _ = stack(_x())
        (y * _x()).sum().backward()
        assert torch.isfinite(y).all()
        assert stack.blocks[0].raw_gates.weight.grad.abs().max() > 0

    def test_step_leaves_the_callers_state_alone(self, make_stack):
        """``step`` changed the state it was given."""
        stack, x = make_stack("ms"), _x()
        _, state = stack(x)
        copy = map_state(torch.clone, state)
        stack.step(x[:, 0], state)
        for (_, a), (_, b) in zip(named_tensors(state), named_tensors(copy), strict=True):
            assert torch.equal(a, b)

    def test_backward_through_steps_runs(self, make_stack):
        """Backward through ``step`` raised."""
        stack, x = make_stack("ms"), _x().requires_grad_()
        state = stack.initial_state(3)
        for position in range(4):
            y, state = stack.step(x[:, position], state)
        y.sum().backward()
        assert x.grad[:, 0].abs().max() > 0

    def test_slstm_step_returns_the_new_state(self):
        """``step`` of the sLSTM cell returned the old state."""
        gates, weight, bias = _slstm_inputs()
        empty = slstm_sequence(gates[:, :1], weight, bias)[1]
        h, state = slstm_step(gates[:, 1], weight, bias, empty)
        assert torch.equal(state.h, h)
        assert not torch.equal(state.c, empty.c)

    def test_prefill_then_step_equals_the_whole(self, make_stack):
        """There was no way to go from a sequence to steps."""
        stack, x = make_stack("msm"), _x()
        _, state = stack(x[:, :8])
        y, _ = stack.step(x[:, 8], state)
        torch.testing.assert_close(y, stack(x)[0][:, 8], atol=1e-10, rtol=0)

    def test_slstms_empty_state_is_told_per_sample(self, make_stack):
        """Whether the state is empty was asked of the whole batch: errors of 0.016, or NaN."""
        stack, x = make_stack("s"), _x()
        _, state = stack(x)
        mixed = reset_state(state, torch.tensor([True, False, True]))
        y, _ = stack(x, state=mixed)
        assert torch.isfinite(y).all()
        torch.testing.assert_close(y[[0, 2]], stack(x)[0][[0, 2]], atol=1e-12, rtol=0)
        torch.testing.assert_close(y[1], stack(x, state=state)[0][1], atol=1e-12, rtol=0)

    def test_slstm_step_can_be_exported_compiled_and_vmapped(self):
        """The question about the whole batch broke export, compile and vmap."""
        gates, weight, bias = _slstm_inputs(batch=3)
        state = slstm_sequence(gates[:, :2], weight, bias)[1]
        expected, _ = slstm_step(gates[:, 2], weight, bias, state)

        def one(preact, h, c, n, m):
            single = SLSTMState(*(t[None] for t in (h, c, n, m)))
            return slstm_step(preact[None], weight, bias, single)[0][0]

        torch.testing.assert_close(torch.vmap(one)(gates[:, 2], *state), expected)
        compiled = torch.compile(slstm_step, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(gates[:, 2], weight, bias, state)[0], expected)

    @pytest.mark.parametrize("size", [-100.0, 100.0, -500.0, 500.0])
    @pytest.mark.parametrize("cell", ["m", "s"])
    def test_float32_gradients_are_finite_at_large_gates(self, cell, size):
        """Float32 gradients were NaN at a gate of −100."""
        if cell == "m":
            q, k, v, igate, fgate = (t.float() for t in _mlstm_inputs())
            leaves = [(igate + size).requires_grad_(), (fgate - size).requires_grad_()]
            h, _ = mlstm_chunkwise(q, k, v, *leaves)
        else:
            gates, weight, bias = _slstm_inputs(dtype=torch.float32)
            leaves = [(gates + size).requires_grad_()]
            h, _ = slstm_sequence(leaves[0], weight, bias)
        gradients = torch.autograd.grad(h.sum(), leaves)
        assert torch.isfinite(h).all()
        assert all(torch.isfinite(g).all() for g in gradients)

    def test_slstm_backward_takes_time_linear_in_length(self):
        """Backward was quadratic in the length: what it keeps may only grow with the length."""
        gates, weight, bias = _slstm_inputs(batch=1)
        weight.requires_grad_()
        kept = []
        for seq_len in (16, 64):
            sizes = []
            x = torch.randn(1, seq_len, 4, 2, 4, dtype=gates.dtype, requires_grad=True)
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t
            ):
                slstm_sequence(x, weight, bias)[0].sum().backward()
            kept.append(sum(sizes))
        assert 0 < kept[1] <= 4.5 * kept[0]


class TestMlstmKernels:
    """``mlstm_kernels``, native backends."""

    def test_gradients_pass_through_the_normaliser(self):
        """One backend left out the normaliser's gradient: bare-cell gradients were 100 % off."""
        leaves = [t.requires_grad_() for t in _mlstm_inputs(batch=1, heads=1, seq_len=5, dim=3)]
        for form in (mlstm_parallel, lambda *a: mlstm_chunkwise(*a, chunk_size=2)):
            assert torch.autograd.gradcheck(lambda *a, f=form: f(*a)[0], leaves)

    @pytest.mark.parametrize("seq_len", [1, 63, 65, 130])
    def test_training_takes_any_length(self, seq_len, make_stack):
        """Training needed a length divisible by 64."""
        stack = make_stack("m").train()
        y, _ = stack(_x(seq_len=seq_len))
        y.sum().backward()
        assert y.shape[1] == seq_len

    def test_training_with_padding_runs(self):
        """The mode for padded training always crashed."""
        model = SequenceRecommender(9, XLSTMStack(8, "ms", num_heads=2), 8)
        items = torch.tensor([[3, 4, 5], [7, 0, 0], [0, 0, 2]])
        loss = torch.nn.functional.cross_entropy(
            model(items)[:, :-1].flatten(0, 1), items[:, 1:].flatten(), ignore_index=0
        )
        loss.backward()
        assert torch.isfinite(loss)


class TestWhatNoneOffers:
    """What none of them had together."""

    def test_forms_agree_in_float64(self):
        """Parallel, chunkwise and step form give the same numbers, states in and out."""
        inputs = _mlstm_inputs(seq_len=17)
        _, start = mlstm_parallel(*(t[:, :, :4] for t in inputs))
        rest = [t[:, :, 4:] for t in inputs]
        whole, end = mlstm_parallel(*rest, state=start)
        chunked, chunked_end = mlstm_chunkwise(*rest, state=start, chunk_size=5)
        state, steps = start, []
        for position in range(13):
            h, state = mlstm_step(*(t[:, :, position] for t in rest), state)
            steps.append(h)
        for other, other_end in ((chunked, chunked_end), (torch.stack(steps, 2), state)):
            torch.testing.assert_close(other, whole, atol=1e-10, rtol=0)
            for a, b in zip(other_end, end, strict=True):
                torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
        assert isinstance(end, MLSTMState)

    def test_weights_load_without_pickle(self, make_stack):
        """``torch.load`` is only ever used with ``weights_only=True``; ours loads that way too."""
        stack, buffer = make_stack(), io.BytesIO()
        torch.save(stack.state_dict(), buffer)
        buffer.seek(0)
        other = make_stack()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        other.load_state_dict(torch.load(buffer, weights_only=True))
        x = _x()
        assert torch.equal(other(x)[0], stack(x)[0])
