"""The gate of a feed-forward layer on GPUs against its formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.xlstm_model.kernels.comparison import assert_equal
from xlstm_model.kernels import feed_forward as kernels
from xlstm_model.kernels import library
from xlstm_model.layers import GatedFeedForward

pytestmark = pytest.mark.usefixtures("poisoned")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("is_gelu", [True, False], ids=["gelu", "silu"])
@pytest.mark.parametrize("shape", [(2, 3, 10), (7, 384), (5000, 2)])
def test_equals_its_formula(rng, device, dtype, is_gelu, shape):
    x = (2 * torch.randn(shape, generator=rng)).to(device, dtype).requires_grad_()

    def reference(x):
        gate, up = x.chunk(2, dim=-1)
        return ((F.gelu(gate) if is_gelu else F.silu(gate)) * up,)

    assert_equal(
        lambda x: (kernels.gated_units(x, is_gelu),), reference, [x], (0,), TOLERANCE[dtype]
    )


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_layer_takes_them(rng, device, activation):
    layer = GatedFeedForward(8, activation=activation).to(device)
    x = torch.randn(2, 3, 8, generator=rng).to(device)
    found = layer(x)
    with library.disabled():
        expected = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
