"""Three forms of the mLSTM: against one another, against the plain equations, and their errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from xlstm_model.cells import (
    MLSTMState,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_reference,
    mlstm_step,
)


def _flat(result):
    return (result[0], *result[1])


def _equations(q, k, v, igate, fgate):
    """The equations without stabiliser, one sample and head, for gates that cannot overflow."""
    c = torch.zeros(k.shape[-1], v.shape[-1], dtype=q.dtype)
    n = torch.zeros(k.shape[-1], dtype=q.dtype)
    outputs = []
    for t in range(q.shape[0]):
        key = k[t] / math.sqrt(k.shape[-1])
        c = torch.sigmoid(fgate[t]) * c + igate[t].exp() * torch.outer(key, v[t])
        n = torch.sigmoid(fgate[t]) * n + igate[t].exp() * key
        outputs.append(c.T @ q[t] / max(abs((n @ q[t]).item()), 1.0))
    return torch.stack(outputs), c, n


@pytest.mark.parametrize("form", [mlstm_parallel, mlstm_chunkwise, mlstm_reference])
def test_equals_the_unstabilised_equations(mlstm_inputs, form):
    inputs = [x.detach() for x in mlstm_inputs(S=11)]
    h, state = form(*inputs)
    for b in range(2):
        for head in range(2):
            expected, c, n = _equations(*(x[b, head] for x in inputs))
            scale = state.m[b, head].exp()
            torch.testing.assert_close(h[b, head], expected, atol=1e-12, rtol=1e-12)
            torch.testing.assert_close(state.c[b, head] * scale, c, atol=1e-12, rtol=1e-12)
            torch.testing.assert_close(state.n[b, head] * scale, n, atol=1e-12, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_forms_agree_for_any_shape_mask_and_chunk_size(data):
    B, NH, S = (data.draw(st.integers(1, top)) for top in (3, 3, 20))
    DK, DV = (data.draw(st.integers(1, 5)) for _ in range(2))
    chunk_size = data.draw(st.integers(1, 25))
    scale = data.draw(st.sampled_from([1.0, 5.0, 30.0]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    q, k, v, i, f = (
        torch.randn(shape, generator=rng, dtype=torch.float64)
        for shape in [(B, NH, S, DK)] * 2 + [(B, NH, S, DV)] + [(B, NH, S)] * 2
    )
    mask = data.draw(st.sampled_from([None, 0.3, 0.8]))
    mask = None if mask is None else torch.rand(B, S, generator=rng) < mask
    h, state = mlstm_chunkwise(q, k, v, i * scale, f * scale, mask=mask, chunk_size=chunk_size)
    expected, end = mlstm_reference(q, k, v, i * scale, f * scale, mask=mask)
    top = expected.abs().max().clamp(min=1.0)
    assert (h - expected).abs().max() <= 1e-10 * top
    for part, target in zip(state, end, strict=True):
        torch.testing.assert_close(part, target, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("chunk_size", [1, 4, 5, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.usefixtures("kernels")
def test_values_and_gradients_agree(
    mlstm_inputs, gradients_of, assert_close, chunk_size, dtype, tolerance, scale
):
    inputs = mlstm_inputs(S=41, DK=8, DV=8, scale=scale, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    actual = _flat(mlstm_chunkwise(*inputs, chunk_size=chunk_size))
    expected = _flat(mlstm_reference(*exact))
    assert_close(actual, expected, tolerance)
    assert_close(gradients_of(actual[:1], inputs), gradients_of(expected[:1], exact), 5 * tolerance)
    steps = _flat(mlstm_reference(*inputs))
    assert_close(actual, steps, tolerance)


@pytest.mark.parametrize("eps", [0.0, 1e-2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("empty_sample", [None, 1])
def test_gradients_from_and_into_states_agree(
    mlstm_inputs, some_state, gradients_of, assert_close, eps, masked, empty_sample
):
    inputs = mlstm_inputs(S=11)
    state = some_state("mlstm", 2, 2, 3, 4, empty_sample=empty_sample)
    mask = torch.rand(2, 11, generator=torch.Generator().manual_seed(3)) < 0.6 if masked else None
    leaves = [*inputs, *state]
    arguments = {"state": state, "mask": mask, "eps": eps}
    expected = _flat(mlstm_reference(*inputs, **arguments))
    expected_grads = gradients_of(expected, leaves)
    for result in (
        _flat(mlstm_chunkwise(*inputs, **arguments, chunk_size=4)),
        _flat(mlstm_parallel(*inputs, **arguments)),
    ):
        assert_close(result, expected, 1e-12)
        assert_close(gradients_of(result, leaves), expected_grads, 1e-10)


@pytest.mark.parametrize("eps", [0.0, 1e-2])
@pytest.mark.parametrize("form", ["parallel", "chunkwise", "step"])
def test_gradcheck(mlstm_inputs, some_state, form, eps):
    inputs, state = mlstm_inputs(B=2, NH=1, S=4, DK=2, DV=3), some_state("mlstm", 2, 1, 2, 3)
    mask = torch.tensor([[True, True, False, True], [False, True, True, False]])

    def run(*leaves):
        data, before = leaves[:5], MLSTMState(*leaves[5:])
        if form == "step":
            return _flat(mlstm_step(*(x[:, :, 0] for x in data), before, eps=eps))
        if form == "parallel":
            return _flat(mlstm_parallel(*data, state=before, mask=mask, eps=eps))
        return _flat(mlstm_chunkwise(*data, state=before, mask=mask, eps=eps, chunk_size=3))

    assert gradcheck(run, [*inputs, *state])


def test_differentiating_the_backward_is_refused(mlstm_inputs):
    inputs = mlstm_inputs()
    h, _ = mlstm_chunkwise(*inputs)
    with pytest.raises(RuntimeError, match="create_graph=True; expected False"):
        torch.autograd.grad(h.sum(), inputs[:1], create_graph=True)


@pytest.mark.usefixtures("kernels")
def test_equal_gates_and_zero_queries_stay_finite(gradients_of):
    shape = (1, 1, 5, 3)
    q, k, v = (torch.zeros(shape, requires_grad=True) for _ in range(3))
    i, f = (torch.full((1, 1, 5), 100.0, requires_grad=True) for _ in range(2))
    h, _ = mlstm_chunkwise(q, k, v, i, f)
    assert torch.equal(h, torch.zeros(shape))
    assert all(g.isfinite().all() for g in gradients_of([h], [q, k, v, i, f]))


@pytest.mark.usefixtures("kernels")
def test_keeps_the_dtype_of_values_and_a_float32_state_for_half_precision(mlstm_inputs):
    inputs = mlstm_inputs(dtype=torch.bfloat16)
    h, state = mlstm_chunkwise(*inputs)
    assert h.dtype == torch.bfloat16
    assert {part.dtype for part in state} == {torch.float32}
    exact, _ = mlstm_reference(*(x.double() for x in inputs))
    assert (h - exact).abs().max() <= 0.02 * exact.abs().max()


@pytest.mark.usefixtures("kernels")
def test_autocast_changes_nothing_inside(mlstm_inputs, gradients_of, assert_close):
    inputs = mlstm_inputs(S=20, dtype=torch.float32)
    expected = mlstm_chunkwise(*inputs, chunk_size=8)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = mlstm_chunkwise(*inputs, chunk_size=8)[0]
        grads = gradients_of([actual], inputs)
    assert torch.equal(actual, expected)
    assert_close(grads, gradients_of([expected], inputs), 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 2, 9, 5)}, r"k has shape \(2, 2, 9, 5\); expected \(2, 2, 9, 3\)"),
        ({"v": torch.zeros(2, 2, 8, 4)}, r"v has shape \(2, 2, 8, 4\); expected \(2, 2, 9, 4\)"),
        ({"igate_preact": torch.zeros(2, 9, 2)}, r"igate_preact has shape \(2, 9, 2\)"),
        ({"q": torch.zeros(2, 9, 3)}, r"q has shape \(2, 9, 3\); expected \(B, NH, S, DHQK\)"),
        ({"chunk_size": 0}, "chunk_size is 0; expected at least 1"),
        ({"eps": -1e-6}, "eps is -1e-06; expected 0"),
        ({"eps": math.nan}, "eps is nan"),
        ({"mask": torch.ones(2, 8, dtype=torch.bool)}, r"mask has shape \(2, 8\)"),
        ({"state": MLSTMState(*(torch.zeros(1),) * 3)}, r"state.c has shape \(1,\)"),
    ],
)
def test_says_what_does_not_fit(mlstm_inputs, change, message):
    names = ("q", "k", "v", "igate_preact", "fgate_preact")
    arguments = dict(zip(names, mlstm_inputs(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        mlstm_chunkwise(**arguments)


def test_a_mask_of_numbers_is_refused(mlstm_inputs):
    with pytest.raises(TypeError, match=r"expected torch\.bool"):
        mlstm_chunkwise(*mlstm_inputs(), mask=torch.ones(2, 9))
