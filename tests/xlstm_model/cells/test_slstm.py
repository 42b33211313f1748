"""The sLSTM's sequence form against its step and the plain equations, and its errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from xlstm_model.cells import (
    SLSTMState,
    empty_slstm_state,
    slstm_reference,
    slstm_sequence,
    slstm_step,
)


def _flat(result):
    return (result[0], *result[1])


def _equations(gates, weight, bias, input_gate):
    """The equations without stabiliser, one sample and head, for gates that cannot overflow."""
    h = c = n = torch.zeros(gates.shape[-1], dtype=gates.dtype)
    outputs = []
    for preact in gates:
        i, f, z, o = preact + bias + torch.einsum("p,pgo->go", h, weight)
        c = torch.sigmoid(f) * c + input_gate(i) * torch.tanh(z)
        n = torch.sigmoid(f) * n + input_gate(i)
        h = torch.sigmoid(o) * c / n
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("form", [slstm_sequence, slstm_reference])
@pytest.mark.parametrize(("gate", "input_gate"), [("exp", torch.exp), ("sigmoid", torch.sigmoid)])
def test_equals_the_unstabilised_equations(slstm_inputs, form, gate, input_gate):
    gates, weight, bias = (x.detach() for x in slstm_inputs(S=11))
    h, _ = form(gates, weight, bias, gate=gate)
    for b in range(2):
        for head in range(2):
            expected = _equations(gates[b, :, :, head], weight[head], bias[head], input_gate)
            torch.testing.assert_close(h[b, :, head], expected, atol=1e-13, rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_forms_agree_for_any_shape_and_mask(data):
    B, S, NH, DH = (data.draw(st.integers(1, top)) for top in (3, 20, 3, 5))
    gate = data.draw(st.sampled_from(["exp", "sigmoid"]))
    scale = data.draw(st.sampled_from([1.0, 5.0, 30.0]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    gates, weight, bias = (
        torch.randn(shape, generator=rng, dtype=torch.float64)
        for shape in [(B, S, 4, NH, DH), (NH, DH, 4, DH), (NH, 4, DH)]
    )
    mask = data.draw(st.sampled_from([None, 0.3, 0.8]))
    mask = None if mask is None else torch.rand(B, S, generator=rng) < mask
    actual = slstm_sequence(gates * scale, weight, bias, mask=mask, gate=gate)
    expected = slstm_reference(gates * scale, weight, bias, mask=mask, gate=gate)
    for part, target in zip(_flat(actual), _flat(expected), strict=True):
        torch.testing.assert_close(part, target, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("gate", ["exp", "sigmoid"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.usefixtures("kernels")
def test_values_and_gradients_agree(
    slstm_inputs, gradients_of, assert_close, gate, dtype, tolerance
):
    inputs = slstm_inputs(S=150, DH=8, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    actual = _flat(slstm_sequence(*inputs, gate=gate))
    expected = _flat(slstm_reference(*exact, gate=gate))
    assert_close(actual, expected, tolerance)
    assert_close(gradients_of(actual[:1], inputs), gradients_of(expected[:1], exact), 5 * tolerance)
    assert_close(actual, _flat(slstm_reference(*inputs, gate=gate)), tolerance)


@pytest.mark.parametrize("gate", ["exp", "sigmoid"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("empty_sample", [None, 1])
def test_gradients_from_and_into_states_agree(
    slstm_inputs, some_state, gradients_of, assert_close, gate, masked, empty_sample
):
    inputs = slstm_inputs(S=70)
    state = some_state("slstm", 2, 2, 3, empty_sample=empty_sample)
    mask = torch.rand(2, 70, generator=torch.Generator().manual_seed(3)) < 0.6 if masked else None
    leaves = [*inputs, *state]
    actual = _flat(slstm_sequence(*inputs, state=state, mask=mask, gate=gate))
    expected = _flat(slstm_reference(*inputs, state=state, mask=mask, gate=gate))
    assert_close(actual, expected, 1e-12)
    assert_close(gradients_of(actual, leaves), gradients_of(expected, leaves), 1e-10)


@pytest.mark.parametrize("gate", ["exp", "sigmoid"])
@pytest.mark.parametrize("form", ["sequence", "step"])
def test_gradcheck(slstm_inputs, some_state, form, gate):
    inputs, state = slstm_inputs(S=4, DH=2), some_state("slstm", 2, 2, 2)
    mask = torch.tensor([[True, True, False, True], [False, True, True, False]])

    def run(*leaves):
        gates, weight, bias = leaves[:3]
        before = SLSTMState(*leaves[3:])
        if form == "step":
            return _flat(slstm_step(gates[:, 0], weight, bias, before, gate=gate))
        return _flat(slstm_sequence(gates, weight, bias, state=before, mask=mask, gate=gate))

    assert gradcheck(run, [*inputs, *state])


def test_differentiating_the_backward_is_refused(slstm_inputs):
    inputs = slstm_inputs()
    h, _ = slstm_sequence(*inputs)
    with pytest.raises(RuntimeError, match="create_graph=True; expected False"):
        torch.autograd.grad(h.sum(), inputs[:1], create_graph=True)


def test_heads_do_not_mix(slstm_inputs):
    gates, weight, bias = (x.detach() for x in slstm_inputs())
    changed = gates.clone()
    changed[:, :, :, 0] += 1.0
    before, after = (slstm_sequence(x, weight, bias)[0] for x in (gates, changed))
    assert torch.equal(before[:, :, 1], after[:, :, 1])
    assert not torch.allclose(before[:, :, 0], after[:, :, 0])


@pytest.mark.usefixtures("kernels")
def test_keeps_the_dtype_of_gates_and_a_float32_state_for_half_precision(slstm_inputs):
    inputs = slstm_inputs(dtype=torch.bfloat16)
    h, state = slstm_sequence(*inputs)
    assert h.dtype == torch.bfloat16
    assert {part.dtype for part in state} == {torch.float32}
    exact, _ = slstm_reference(*(x.double() for x in inputs))
    assert (h - exact).abs().max() <= 0.02


@pytest.mark.usefixtures("kernels")
def test_autocast_changes_nothing_inside(slstm_inputs, gradients_of):
    inputs = slstm_inputs(dtype=torch.float32)
    expected = slstm_sequence(*inputs)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = slstm_sequence(*inputs)[0]
        grads = gradients_of([actual], inputs)
    assert torch.equal(actual, expected)
    for a, b in zip(grads, gradients_of([expected], inputs), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates_preact": torch.zeros(2, 9, 3, 2, 3)}, r"gates_preact has shape \(2, 9, 3, 2, 3\)"),
        ({"gates_preact": torch.zeros(2, 0, 4, 2, 3)}, "no empty dimension"),
        ({"recurrent_weight": torch.zeros(2, 4, 3, 3)}, "recurrent_weight has shape"),
        ({"bias": torch.zeros(4, 2, 3)}, r"bias has shape \(4, 2, 3\); expected \(2, 4, 3\)"),
        ({"state": empty_slstm_state(1, 2, 3)}, r"state.h has shape \(1, 2, 3\)"),
        ({"gate": "relu"}, "gate is 'relu'; expected 'exp' or 'sigmoid'"),
        ({"mask": torch.ones(9, 2, dtype=torch.bool)}, r"mask has shape \(9, 2\)"),
    ],
)
def test_says_what_does_not_fit(slstm_inputs, change, message):
    names = ("gates_preact", "recurrent_weight", "bias")
    arguments = dict(zip(names, slstm_inputs(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        slstm_sequence(**arguments)
