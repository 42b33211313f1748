"""Neither gates of any strength, nor long sequences, nor half precision give NaN or infinity."""

from __future__ import annotations

import pytest
import torch

from xlstm_model.cells import (
    empty_mlstm_state,
    empty_slstm_state,
    mlstm_chunkwise,
    mlstm_reference,
    mlstm_step,
    slstm_reference,
    slstm_sequence,
    slstm_step,
)
from xlstm_model.state import reset_state

STRENGTHS = [50.0, 100.0, 500.0]
DTYPES = [torch.float32, torch.bfloat16]
pytestmark = pytest.mark.usefixtures("kernels")

WHERE = torch.tensor([True, False, True])


def _signs(shape, strength, rng):
    """Pre-activations of ± one strength, in runs: both signs meet at every lag."""
    return torch.where(torch.rand(shape, generator=rng) < 0.5, -strength, strength)


def _assert_finite(tensors, allow_minus_inf=False):
    for number, tensor in enumerate(tensors):
        good = tensor.isfinite()
        if allow_minus_inf:
            good |= tensor == float("-inf")
        assert good.all(), f"tensor {number} has {(~good).sum()} entries that are not finite"


def _gates(shape, pattern, strength, rng):
    if pattern == "mixed":
        return _signs(shape, strength, rng)
    return torch.full(shape, {"high": strength, "low": -strength}[pattern])


@pytest.mark.parametrize("length", [200, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("pattern", ["mixed", "high", "low"])
def test_mlstm_stays_finite(pattern, strength, dtype, length):
    rng = torch.Generator().manual_seed(0)
    B, NH, D = 3, 1, 4
    q, k, v = (torch.randn(B, NH, length, D, generator=rng) for _ in range(3))
    i, f = (_gates((B, NH, length), pattern, strength, rng) for _ in range(2))
    leaves = [x.to(dtype).requires_grad_() for x in (q, k, v, i, f)]
    _, state = mlstm_chunkwise(*(x[:, :, :50].detach() for x in leaves))
    state = reset_state(state, WHERE)
    mask = torch.rand(B, length, generator=rng) < 0.7
    mask[0] = False
    start = type(state)(*(x.requires_grad_() for x in state))
    h, end = mlstm_chunkwise(*leaves, state=start, mask=mask)
    grads = torch.autograd.grad(h.float().square().sum() + end.n.sum(), [*leaves, *start])
    _assert_finite([h, *end[:2], *grads])
    _assert_finite(end[2:], allow_minus_inf=True)


@pytest.mark.parametrize("length", [200, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("pattern", ["mixed", "high", "low"])
def test_slstm_stays_finite(pattern, strength, dtype, length):
    if length > 200 and (pattern != "mixed" or dtype != torch.float32):
        length = 1024
    rng = torch.Generator().manual_seed(0)
    B, NH, D = 3, 1, 4
    gates = _gates((B, length, 4, NH, D), pattern, strength, rng)
    weight = torch.randn(NH, D, 4, D, generator=rng)
    leaves = [x.to(dtype).requires_grad_() for x in (gates, weight, torch.zeros(NH, 4, D))]
    _, state = slstm_sequence(leaves[0][:, :50].detach(), *(x.detach() for x in leaves[1:]))
    state = reset_state(state, WHERE)
    mask = torch.rand(B, length, generator=rng) < 0.7
    mask[0] = False
    start = type(state)(*(x.requires_grad_() for x in state))
    h, end = slstm_sequence(*leaves, state=start, mask=mask)
    grads = torch.autograd.grad(h.float().square().sum() + end.c.sum(), [*leaves, *start])
    _assert_finite([h, *end[:3], *grads])
    _assert_finite(end[3:], allow_minus_inf=True)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("pattern", ["mixed", "high", "low"])
def test_steps_stay_finite_forward_and_backward(pattern, strength):
    rng = torch.Generator().manual_seed(0)
    B, NH, D, S = 3, 2, 4, 30
    q, k, v = (torch.randn(B, NH, S, D, generator=rng) for _ in range(3))
    i, f = (_gates((B, NH, S), pattern, strength, rng) for _ in range(2))
    leaves = [x.requires_grad_() for x in (q, k, v, i, f)]
    state, total = empty_mlstm_state(B, NH, D, D), 0.0
    for t in range(S):
        h, state = mlstm_step(*(x[:, :, t] for x in leaves), state)
        total = total + h.square().sum()
        if t == S // 2:
            state = reset_state(state, WHERE)
    _assert_finite([total, *state, *torch.autograd.grad(total + state.n.sum(), leaves)])

    gates = _gates((B, S, 4, NH, D), pattern, strength, rng).requires_grad_()
    weight = torch.randn(NH, D, 4, D, generator=rng).requires_grad_()
    state, total = empty_slstm_state(B, NH, D), 0.0
    for t in range(S):
        h, state = slstm_step(gates[:, t], weight, torch.zeros(NH, 4, D), state)
        total = total + h.square().sum()
        if t == S // 2:
            state = reset_state(state, WHERE)
    _assert_finite([total, *state, *torch.autograd.grad(total + state.c.sum(), [gates, weight])])


@pytest.mark.parametrize("strength", STRENGTHS)
def test_float32_agrees_with_float64_steps_under_hard_gates(strength, assert_close):
    rng = torch.Generator().manual_seed(1)
    B, NH, S, D = 2, 2, 150, 8
    # Positive queries and keys: no denominator is a difference, which no float32 form could give.
    q, k, v = (torch.rand(B, NH, S, D, generator=rng) + 0.1 for _ in range(3))
    i, f = (_signs((B, NH, S), strength, rng) + torch.rand(B, NH, S, generator=rng) for _ in "if")
    exact, _ = mlstm_reference(*(x.double() for x in (q, k, v, i, f)))
    for chunk_size in (7, 64, 150):
        assert_close([mlstm_chunkwise(q, k, v, i, f, chunk_size=chunk_size)[0]], [exact], 1e-5)

    gates = _signs((B, S, 4, NH, D), strength, rng) + torch.rand(B, S, 4, NH, D, generator=rng)
    weight, bias = torch.randn(NH, D, 4, D, generator=rng), torch.zeros(NH, 4, D)
    exact, _ = slstm_reference(gates.double(), weight.double(), bias.double())
    # The recurrence feeds rounding at 500 (3e-5) back into its gates.
    assert_close([slstm_sequence(gates, weight, bias)[0]], [exact], 1e-5 + 3e-7 * strength)


def test_memory_holds_over_4096_positions_without_forgetting(assert_close):
    rng = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 1, 4096, 4, generator=rng) for _ in range(3))
    gate = torch.zeros(1, 1, 4096)
    h, state = mlstm_chunkwise(q, k, v, gate, gate + 100.0)
    expected = torch.einsum("bhsk,bhsv->bhkv", k.double() / 2, v.double())
    scale = state.m.exp()[..., None, None]
    assert_close([state.c * scale], [expected], 1e-5)
    assert h.isfinite().all()
