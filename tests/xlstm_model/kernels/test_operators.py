"""The kernels as operators give what the autograd functions give, and what they claim of shapes."""

from __future__ import annotations

import pytest
import torch

from tests.xlstm_model.kernels.comparison import draw
from xlstm_model.kernels import cross_entropy, mlstm, operators, slstm

pytestmark = [
    # The interpreter calculates with NumPy, which warns of numbers that are chosen away.
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
]


def _check(operator, arguments, direct):
    """Same results and gradients, with and without the tensors that may be absent."""
    leaves = [x for x in arguments if isinstance(x, torch.Tensor) and x.requires_grad]
    expected = direct(*arguments)
    actual = operator(*arguments)[: len(expected)]
    pairs = [
        torch.autograd.grad(sum(x[x.isfinite()].square().sum() for x in results), leaves)
        for results in (actual, expected)
    ]
    for a, b in zip((*actual, *pairs[0]), (*expected, *pairs[1]), strict=True):
        torch.testing.assert_close(a, b)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("with_state", [False, True], ids=["empty", "started"])
@pytest.mark.parametrize("seq_len", [7, 20])
def test_mlstm(rng, device, with_state, seq_len):
    B, NH, D = 2, 2, 8
    dense = [draw((B, NH, seq_len, D), rng, torch.float32, device) for _ in range(3)]
    gates = [draw((B, NH, seq_len), rng, torch.float32, device) for _ in range(2)]
    shapes = [(B, NH, D, D), (B, NH, D), (B, NH)]
    state = [draw(s, rng, torch.float32, device) if with_state else None for s in shapes]
    mask = torch.ones(B, seq_len, dtype=torch.bool, device=device)
    mask[1, 3:] = False

    def direct(*tensors):
        return mlstm.MLSTM.apply(*tensors, None)

    _check(operators.mlstm_op, (*dense, *gates, *state, mask), direct)


@pytest.mark.parametrize("with_state", [False, True], ids=["empty", "started"])
def test_slstm(rng, device, with_state):
    gates = draw((3, 5, 4, 2, 8), rng, torch.float32, device)
    weight = draw((2, 8, 4, 8), rng, torch.float32, device, 0.1)
    bias = draw((2, 4, 8), rng, torch.float32, device)
    state = [None] * 4
    if with_state:
        state = [draw((3, 2, 8), rng, torch.float32, device) for _ in range(4)]
        state[2] = (1 + state[2].detach().abs()).requires_grad_()

    def direct(*arguments):
        return slstm.SLSTM.apply(*arguments, None)

    _check(operators.slstm_op, (gates, weight, bias, *state, None, False), direct)


@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
def test_cross_entropy(rng, device, with_bias):
    hidden, weight = (draw((n, 16), rng, torch.float32, device) for n in (9, 12))
    bias = draw((12,), rng, torch.float32, device) if with_bias else None
    targets = torch.randint(0, 12, (9,), generator=rng).to(device)

    def direct(*arguments):
        return cross_entropy.CrossEntropy.apply(*arguments, None, None, None)

    _check(operators.cross_entropy_op, (hidden, weight, bias, targets), direct)
