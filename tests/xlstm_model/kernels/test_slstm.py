"""The sLSTM's GPU kernels against the cell in float64, position by position."""

from __future__ import annotations

import pytest
import torch

from tests.xlstm_model.kernels.comparison import assert_equal, draw
from xlstm_model.cells import SLSTMState, slstm_reference, slstm_sequence
from xlstm_model.kernels import library
from xlstm_model.kernels import slstm as kernels

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    # The interpreter calculates with NumPy, which warns of numbers that are chosen away.
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2}


def _leaves(B, S, NH, DH, rng, dtype, device, with_state=False):
    gates = draw((B, S, 4, NH, DH), rng, dtype, device, 2.0)
    weight = draw((NH, DH, 4, DH), rng, torch.float32, device, 0.5 / DH**0.5)
    leaves = [gates, weight, draw((NH, 4, DH), rng, torch.float32, device)]
    if with_state:
        h, c, n, m = (draw((B, NH, DH), rng, torch.float32, device) for _ in range(4))
        leaves += [h, c, (1 + n.detach().abs()).requires_grad_(), m]
    return leaves


def _check(leaves, mask, gate, grads_of=(0, 1, 2, 3, 4), plan=None):
    with_state = len(leaves) > 3

    def run(*tensors):
        state = tensors[3:] if with_state else None
        return kernels.slstm(*tensors[:3], state, mask, gate == "sigmoid", plan)

    def reference(*tensors):
        state = SLSTMState(*tensors[3:]) if with_state else None
        h, end = slstm_reference(*tensors[:3], state=state, mask=mask, gate=gate)
        return h, *end

    assert_equal(run, reference, leaves, grads_of, TOLERANCE[leaves[0].dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("gate", ["exp", "sigmoid"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("with_state", [False, True], ids=["empty", "started"])
def test_equals_the_reference(rng, device, dtype, gate, masked, with_state):
    leaves = _leaves(19, 7, 2, 5, rng, dtype, device, with_state)
    mask = (torch.rand(19, 7, generator=rng) < 0.7).to(device) if masked else None
    _check(leaves, mask, gate)
    _check(leaves, mask, gate, grads_of=(0,))


@pytest.mark.parametrize("head_dim", [16, 32, 40, 64, 100, 128, 200, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_any_head_size(rng, device, head_dim, dtype):
    _check(_leaves(3, 5, 2, head_dim, rng, dtype, device), None, "exp")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_weights_that_come_by_in_parts(rng, device, dtype):
    head_dim = 2 * kernels.RESIDENT_HEAD[dtype] - 7
    leaves = _leaves(19, 6, 2, head_dim, rng, dtype, device, with_state=True)
    mask = (torch.rand(19, 6, generator=rng) < 0.7).to(device)
    _check(leaves, mask, "sigmoid")


def test_heads_too_wide_are_told_of_once(rng, device, monkeypatch):
    monkeypatch.setattr(library, "_said", set())
    width = kernels.WIDEST_HEAD[torch.float32] + 1
    leaves = _leaves(1, 2, 1, width, rng, torch.float32, device)
    with pytest.warns(RuntimeWarning, match=f"sLSTM.*heads of {width}.*num_heads"):
        h, _ = slstm_sequence(*leaves)
    again, _ = slstm_sequence(*leaves)
    assert torch.equal(h, again)


def test_long_sequence_of_one_sample(rng, device):
    _check(_leaves(1, 70, 1, 16, rng, torch.float32, device), None, "exp")


def test_padding_may_hold_anything(rng, device):
    leaves = _leaves(3, 6, 1, 8, rng, torch.float32, device)
    mask = torch.arange(6, device=device) < torch.tensor([[6], [2], [0]], device=device)
    spoiled = [x.detach().clone() for x in leaves]
    spoiled[0][~mask] = torch.nan
    for x in spoiled:
        x.requires_grad_()
    results = [kernels.slstm(*x, None, mask, False) for x in (leaves, spoiled)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    for x in torch.autograd.grad(results[1][0].sum(), spoiled):
        assert torch.isfinite(x).all()


def test_the_cell_takes_them(rng, device, monkeypatch):
    called = []
    run = kernels.forward
    monkeypatch.setattr(kernels, "forward", lambda *x: called.append(1) or run(*x))
    leaves = _leaves(2, 3, 1, 8, rng, torch.float32, device)
    slstm_sequence(*leaves)
    assert called
    slstm_sequence(*(x.double() for x in leaves))
    assert len(called) == 1
