"""The mLSTM's GPU kernels against the cell in float64, position by position."""

from __future__ import annotations

import pytest
import torch

from tests.xlstm_model.kernels.comparison import assert_equal, draw
from xlstm_model.cells import MLSTMState, compute_dtype, mlstm_chunkwise, mlstm_reference
from xlstm_model.kernels import mlstm as kernels
from xlstm_model.kernels import mlstm_launches

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    # The interpreter calculates with NumPy, which warns of numbers that are chosen away.
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
]

TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 3e-2}


def _squash(h):
    """Bound outputs whose denominator is nearly 0. A clamp would not do: an output that rounds to
    the other side of its corner gains or loses a whole gradient, 4 to 7 % of some tensors here."""
    return 3.0 * torch.tanh(h / 3.0)


def _state(B, NH, DK, DV, rng, device):
    shapes = [(B, NH, DK, DV), (B, NH, DK), (B, NH)]
    return [draw(shape, rng, torch.float32, device) for shape in shapes]


def _inputs(B, NH, S, DK, DV, rng, dtype, device, gates=1.0):
    """q, k, v in the memory blocks give them, and gates with strides."""
    dense = [draw((B, NH, S, d), rng, dtype, device) for d in (DK, DK, DV)]
    igate, fgate = (draw((B, NH, S), rng, dtype, device, gates) for _ in range(2))
    with torch.no_grad():
        fgate += 2.0
    return [*dense, igate, fgate]


def _check(leaves, mask, plan, with_state, grads_of=(0, 1, 2, 3), tolerance=None):
    def run(*tensors):
        state = tensors[5:] if with_state else None
        h, *end = kernels.mlstm(*tensors[:5], state, mask, plan)
        return _squash(h.float()), *end

    def reference(*tensors):
        state = MLSTMState(*tensors[5:]) if with_state else None
        h, end = mlstm_reference(*tensors[:5], state=state, mask=mask)
        return _squash(h), *end

    dtype = leaves[0].dtype
    assert_equal(run, reference, leaves, grads_of, tolerance or TOLERANCE[dtype])


CARRIED = kernels.Plan(16, True, 32, 4, 1, 32, 4, 1)
PARALLEL = kernels.Plan(16, False, 16, 4, 1, 16, 4, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("plan", [CARRIED, PARALLEL], ids=["carried", "parallel"])
@pytest.mark.parametrize("seq_len", [1, 16, 39])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("with_state", [False, True], ids=["empty", "started"])
def test_equals_the_reference(rng, device, dtype, plan, seq_len, masked, with_state):
    B, NH, DK, DV = 2, 2, 5, 20
    leaves = _inputs(B, NH, seq_len, DK, DV, rng, dtype, device)
    leaves += _state(B, NH, DK, DV, rng, device) if with_state else []
    mask = (torch.rand(B, seq_len, generator=rng) < 0.7).to(device) if masked else None
    _check(leaves, mask, plan, with_state)
    _check(leaves, mask, plan, with_state, grads_of=(0,))


@pytest.mark.parametrize("plan", [CARRIED, PARALLEL], ids=["carried", "parallel"])
@pytest.mark.parametrize("with_state", [False, True], ids=["empty", "started"])
def test_gates_of_many_chunks_are_followed_in_turns(rng, device, monkeypatch, plan, with_state):
    monkeypatch.setattr(mlstm_launches, "MOST_CHUNKS", 2)
    # Calls of other tests must not find what is made ready here, nor the other way round.
    monkeypatch.setattr(kernels, "forward_launches", mlstm_launches.forward_launches.__wrapped__)
    B, NH, S, DK, DV = 2, 1, 75, 5, 20
    leaves = _inputs(B, NH, S, DK, DV, rng, torch.float32, device, gates=3.0)
    leaves += _state(B, NH, DK, DV, rng, device) if with_state else []
    mask = (torch.rand(B, S, generator=rng) < 0.7).to(device)
    _check(leaves, mask, plan, with_state)


@pytest.mark.parametrize("plan", [CARRIED, PARALLEL], ids=["carried", "parallel"])
def test_what_was_saved_may_come_back_in_another_layout(rng, device, plan):
    leaves = _inputs(2, 3, 21, 5, 7, rng, torch.float32, device)

    def gradients():
        h, *_ = kernels.mlstm(*leaves, None, None, plan)
        return torch.autograd.grad(h.square().sum(), leaves)

    expected = gradients()
    with torch.autograd.graph.saved_tensors_hooks(_in_order, lambda x: x):
        actual = gradients()
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


def _in_order(x):
    return x.clone(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("head_dim", [16, 24, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_any_head_size(rng, device, head_dim, dtype):
    if head_dim > kernels.WIDEST_HEAD[dtype]:
        pytest.skip("runs in PyTorch's operations")
    leaves = _inputs(1, 2, 70, head_dim, head_dim, rng, dtype, device)
    _check(leaves, None, None, False)


@pytest.mark.parametrize("pull", [30.0, 500.0])
@pytest.mark.parametrize("plan", [CARRIED, PARALLEL], ids=["carried", "parallel"])
def test_hard_gates(rng, device, pull, plan):
    leaves = _inputs(2, 1, 40, 16, 16, rng, torch.float32, device, gates=pull)
    # Denominators near 0 amplify the rounding of float32 in any form of the cell.
    plan = plan._replace(tile=16, backward_tile=16)
    _check(leaves, None, plan, False, grads_of=(0,), tolerance=2e-2)


def test_padding_may_hold_anything(rng, device):
    leaves = _inputs(2, 2, 20, 16, 16, rng, torch.float32, device)
    mask = torch.arange(20, device=device) < torch.tensor([[20], [7]], device=device)
    spoiled = [x.detach().clone() for x in leaves]
    for x in spoiled:
        x[1, :, 7:] = torch.nan
        x.requires_grad_()
    results = [kernels.mlstm(*x, None, mask) for x in (leaves, spoiled)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert not results[1][0][1, :, 7:].any()
    for x in torch.autograd.grad(results[1][0].sum(), spoiled):
        assert torch.isfinite(x).all()
        assert not x[1, :, 7:].any()


def test_the_cell_takes_them(rng, device, monkeypatch):
    called = []
    run = kernels.forward
    monkeypatch.setattr(kernels, "forward", lambda *x: called.append(1) or run(*x))
    leaves = _inputs(1, 1, 5, 8, 8, rng, torch.float32, device)
    h, state = mlstm_chunkwise(*leaves)
    assert called
    assert state.c.dtype == compute_dtype(h.dtype)
    mlstm_chunkwise(*leaves, eps=1e-6)
    mlstm_chunkwise(*(x.double() for x in leaves))
    assert len(called) == 1
