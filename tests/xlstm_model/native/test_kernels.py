"""Compiled kernels against the same passes in PyTorch's operations, for every instruction set."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlstm_model.cells import (
    MLSTMState,
    SLSTMState,
    mlstm_chunkwise,
    mlstm_step,
    slstm_sequence,
    slstm_step,
)
from xlstm_model.native import library

pytestmark = pytest.mark.skipif(
    library.load_library() is None,
    reason="the compiled kernels are absent; run `python -m xlstm_model.native.build`",
)

WIDTHS = (4, 8, 16)


@pytest.fixture(autouse=True)
def _widest_vectors_afterwards():
    yield
    library.load_library().xlstm_restrict_vectors(16)


def _leaves(shapes, rng, scale=1.0):
    return [(torch.randn(s, generator=rng) * scale).requires_grad_() for s in shapes]


@contextmanager
def _kernels_run(*expected):
    """Fails where any of these kernels does not run: without them nothing is compared."""
    with mock.patch.object(library, "call", wraps=library.call) as call:
        yield
    assert {each.args[0] for each in call.call_args_list} == set(expected)


def _assert_equal(run, leaves, tolerance, cell="mlstm"):
    """Results and gradients of a run with kernels against those without."""
    both = []
    for context in (_kernels_run(f"{cell}_forward", f"{cell}_backward"), library.disabled()):
        with context:
            results = run(*leaves)
            rng = torch.Generator().manual_seed(5)
            weights = [torch.randn(x.shape, generator=rng) for x in results]
            grads = torch.autograd.grad(results, leaves, weights, materialize_grads=True)
        both.append([*results, *grads])
    for number, (a, b) in enumerate(zip(*both, strict=True)):
        assert torch.equal(a.isinf(), b.isinf()), number
        a, b = (torch.where(x.isinf(), 0.0, x) for x in (a, b))
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-2) if b.numel() else 0.0
        assert error <= tolerance, f"tensor {number}: {error:.1e}"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mlstm_equals_torch_operations_for_any_shape(data):
    library.load_library().xlstm_restrict_vectors(data.draw(st.sampled_from(WIDTHS)))
    B, NH, S = (data.draw(st.integers(1, top)) for top in (3, 3, 45))
    DK, DV = (data.draw(st.integers(1, 37)) for _ in range(2))
    chunk_size, eps = data.draw(st.integers(1, 50)), data.draw(st.sampled_from([0.0, 1e-2]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    mask = torch.rand(B, S, generator=rng) < data.draw(st.sampled_from([0.2, 0.7, 1.1]))
    leaves = _leaves([(B, NH, S, DK)] * 2 + [(B, NH, S, DV)] + [(B, NH, S)] * 2, rng)
    is_started = data.draw(st.booleans())
    if is_started:
        leaves += _leaves([(B, NH, DK, DV), (B, NH, DK), (B, NH)], rng)

    def run(*tensors):
        state = MLSTMState(*tensors[5:]) if is_started else None
        h, end = mlstm_chunkwise(
            *tensors[:5], state=state, mask=mask, eps=eps, chunk_size=chunk_size
        )
        # Small denominators would amplify rounding beyond any tolerance.
        return h.clamp(-3, 3), *end

    _assert_equal(run, leaves, 2e-3)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_slstm_equals_torch_operations_for_any_shape(data):
    library.load_library().xlstm_restrict_vectors(data.draw(st.sampled_from(WIDTHS)))
    B, S, NH, DH = (data.draw(st.integers(1, top)) for top in (37, 9, 3, 35))
    gate = data.draw(st.sampled_from(["exp", "sigmoid"]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    mask = torch.rand(B, S, generator=rng) < data.draw(st.sampled_from([0.2, 0.7, 1.1]))
    leaves = _leaves([(B, S, 4, NH, DH)], rng, 2.0)
    leaves += _leaves([(NH, DH, 4, DH), (NH, 4, DH)], rng, 0.3)
    is_started = data.draw(st.booleans())
    if is_started:
        h, c, n, m = _leaves([(B, NH, DH)] * 4, rng)
        leaves += [h, c, (1 + n.detach().abs()).requires_grad_(), m]

    def run(*tensors):
        state = SLSTMState(*tensors[3:]) if is_started else None
        h, end = slstm_sequence(*tensors[:3], state=state, mask=mask, gate=gate)
        return h, *end

    _assert_equal(run, leaves, 3e-5, cell="slstm")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_of_this_processor_gives_the_same(width):
    used = library.load_library().xlstm_restrict_vectors(width)
    assert used in WIDTHS
    assert used <= width
    rng = torch.Generator().manual_seed(0)
    leaves = _leaves([(2, 2, 70, 24)] * 3 + [(2, 2, 70)] * 2, rng)
    _assert_equal(lambda *x: (mlstm_chunkwise(*x)[1].c,), leaves, 1e-5)


def test_threads_change_nothing():
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, 3, 40, 8, generator=rng) for _ in range(3))
    i, f = (torch.randn(5, 3, 40, generator=rng) for _ in range(2))
    gates, weight = torch.randn(37, 9, 4, 2, 8, generator=rng), torch.randn(2, 8, 4, 8)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(
                (mlstm_chunkwise(q, k, v, i, f)[0], slstm_sequence(gates, weight, weight[:, 0])[0])
            )
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_elementary_functions_are_accurate_over_their_whole_range():
    """Through an sLSTM of one unit without recurrence, whose outputs show each function alone."""
    x = torch.cat([torch.linspace(-100, 100, 4001), torch.logspace(-30, 0, 301)])
    gates = torch.zeros(len(x), 1, 4, 1, 1)
    gates[:, 0, 2, 0, 0], gates[:, 0, 3, 0, 0] = x, x
    weight, bias = torch.zeros(1, 1, 4, 1), torch.zeros(1, 4, 1)
    h, end = slstm_sequence(gates, weight, bias)
    wide = x.double()
    expected = wide.tanh()
    error = (end.c.flatten() - expected).abs() / expected.abs().clamp(min=1e-37)
    assert error.max() < 3e-7
    expected = wide.tanh() * wide.sigmoid()
    error = (h.flatten() - expected).abs() / expected.abs().clamp(min=1e-30)
    assert error.max() < 1e-6


def test_other_dtypes_run_in_torch_operations():
    x = torch.zeros(1)
    assert library.fits(x)
    assert not library.fits(x, x.double())
    assert not library.fits(x.bfloat16())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [1, 5, 16, 33])
@torch.no_grad()
def test_steps_equal_torch_operations(width, size):
    library.load_library().xlstm_restrict_vectors(width)
    rng = torch.Generator().manual_seed(size)
    B, NH = 21, 2

    def draw(*shape):
        return torch.randn(shape, generator=rng)

    inputs = [draw(B, NH, size), draw(B, NH, size), draw(B, NH, size + 3), draw(B, NH), draw(B, NH)]
    memory = MLSTMState(draw(B, NH, size, size + 3), draw(B, NH, size), draw(B, NH))
    memory.m[3] = float("-inf")
    gates, weight, bias = draw(B, 4, NH, size), draw(NH, size, 4, size) * 0.3, draw(NH, 4, size)
    state = SLSTMState(*(draw(B, NH, size) for _ in range(4)))
    state = state._replace(n=1 + state.n.abs())
    state.m[3] = float("-inf")
    before = [x.clone() for x in (*memory, *state)]

    def run():
        h, after = mlstm_step(*inputs, memory, eps=1e-2)
        results = [h.clamp(-3, 3), *after]
        for gate in ("exp", "sigmoid"):
            h, after = slstm_step(gates, weight, bias, state, gate=gate)
            results += [h, *after]
        return results

    with _kernels_run("mlstm_step", "slstm_step"):
        actual = run()
    with library.disabled():
        expected = run()
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)
    for x, y in zip((*memory, *state), before, strict=True):
        assert torch.equal(x, y)
