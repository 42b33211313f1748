"""The causal convolution with its SiLU on GPUs against the layers in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.xlstm_model.kernels.comparison import assert_equal, draw
from xlstm_model.kernels import convolution
from xlstm_model.layers import CausalConv1d, conv_silu

pytestmark = pytest.mark.usefixtures("poisoned")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def _leaves(B, S, C, K, rng, dtype, device, with_bias=True):
    shapes = [(B, S, C), (C, 1, K)] + [(C,)] * with_bias
    return [
        torch.randn(shape, generator=rng).to(device, kind).requires_grad_()
        for shape, kind in zip(shapes, (dtype, torch.float32, torch.float32), strict=False)
    ]


def _reference(x, weight, bias=None):
    padded = F.pad(x.transpose(1, 2), (weight.shape[-1] - 1, 0))
    return (F.silu(F.conv1d(padded, weight, bias, groups=x.shape[-1])).transpose(1, 2),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("B", "S", "C", "K"),
    [(3, 1, 5, 4), (2, 200, 70, 4), (1, 17, 64, 1), (5, 64, 8, 3), (2, 70, 3, 8)],
)
def test_equals_its_formula(rng, device, dtype, with_bias, B, S, C, K):
    leaves = _leaves(B, S, C, K, rng, dtype, device, with_bias)

    def run(x, weight, bias=None):
        return (convolution.conv_silu(x, weight, bias),)

    assert_equal(run, _reference, leaves, (0,), TOLERANCE[dtype])


def test_channels_may_lie_in_wider_rows(rng, device):
    leaves = [draw((2, 9, 30), rng, torch.float32, device)]
    leaves += _leaves(2, 9, 12, 4, rng, torch.float32, device)[1:]

    def run(x, *weights):
        return (convolution.conv_silu(x[..., 5:17], *weights),)

    def reference(x, *weights):
        return _reference(x[..., 5:17], *weights)

    assert_equal(run, reference, leaves, (0,), 1e-5)


def test_the_layer_takes_it_for_whole_sequences(rng, device, monkeypatch):
    called = []
    run = convolution.conv_silu
    monkeypatch.setattr(convolution, "conv_silu", lambda *x: called.append(1) or run(*x))
    layer = CausalConv1d(6, 4).to(device)
    x = torch.randn(2, 5, 6, generator=rng).to(device)
    y, state = conv_silu(layer, x)
    assert called == [1]
    expected, after = layer(x)
    torch.testing.assert_close(y, F.silu(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(state, after)
    mask = torch.arange(5, device=device) < torch.tensor([[5], [3]], device=device)
    conv_silu(layer, x, mask)
    conv_silu(layer, x, None, state)
    assert called == [1]
