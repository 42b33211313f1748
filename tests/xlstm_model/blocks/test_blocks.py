"""Blocks on their own against plain step-by-step computations of their figures."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xlstm_model import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock


def _away_from_initial(block):
    torch.manual_seed(0)
    block = block.double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return block


def _layer_norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * (1 + weight)


def _convolve(x, conv):
    """Depthwise causal convolution, written out."""
    k = conv.weight.shape[-1]
    padded = torch.cat([torch.zeros_like(x[:, : k - 1]), x], 1)
    taps = [padded[:, j : j + x.shape[1]] * conv.weight[:, 0, j] for j in range(k)]
    return sum(taps) + conv.bias


def _block_diagonal(x, weight):
    groups = x.unflatten(-1, (weight.shape[0], -1))
    return torch.einsum("bsgi,goi->bsgo", groups, weight).flatten(-2)


def test_mlstm_block_is_its_figure():
    block = _away_from_initial(MLSTMBlock(6, num_heads=2, inner_multiple=4, conv_kernel=3))
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    inner, z = (_layer_norm(x, block.norm.weight) @ block.proj_up.weight.T).chunk(2, -1)
    mixed = F.silu(_convolve(inner, block.conv))
    q, k = (_block_diagonal(mixed, p.weight) for p in (block.q_proj, block.k_proj))
    v = _block_diagonal(inner, block.v_proj.weight)
    gates = torch.cat([q, k, v], -1)
    i = (gates @ block.igate.weight.T + block.igate.bias).exp()
    f = (gates @ block.fgate.weight.T + block.fgate.bias).sigmoid()
    q, k, v = (t.unflatten(-1, (2, -1)) for t in (q, k, v))
    c, n, outputs = torch.zeros(2, 2, 6, 6), torch.zeros(2, 2, 6), []
    for t in range(5):
        key = k[:, t] / 6**0.5
        c = f[:, t, :, None, None] * c + i[:, t, :, None, None] * key[..., None] * v[:, t, :, None]
        n = f[:, t, :, None] * n + i[:, t, :, None] * key
        scale = (n * q[:, t]).sum(-1, keepdim=True).abs().clamp(min=1)
        h = torch.einsum("bhk,bhkv->bhv", q[:, t], c) / scale
        outputs.append(_layer_norm(h, 0).flatten(-2) * (1 + block.head_merge.norm.weight))
    merged = torch.stack(outputs, 1) + block.skip * mixed
    expected = x + (merged * F.silu(z)) @ block.proj_down.weight.T
    torch.testing.assert_close(block(x)[0], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("conv_gates", ["if", "ifzo"])
def test_slstm_block_is_its_figure(conv_gates):
    block = _away_from_initial(
        SLSTMBlock(6, num_heads=2, conv_gates=conv_gates, conv_kernel=3, inner_multiple=4)
    )
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    raw = _layer_norm(x, block.norm.weight)
    mixed = F.silu(_convolve(raw, block.conv))
    names = {"if": ["if", "zo"], "ifzo": ["ifzo"]}[conv_gates]
    sources = zip(names, (mixed, raw), (block.convolved_gates, block.raw_gates), strict=False)
    preact = {}
    for letters, source, projection in sources:
        out = _block_diagonal(source, projection.weight).unflatten(-1, (2, len(letters), 3))
        preact |= {letter: out[:, :, :, g] for g, letter in enumerate(letters)}
    weight, bias = block.recurrence.recurrent_weight, block.recurrence.bias
    h = c = n = torch.zeros(2, 2, 3, dtype=torch.float64)
    outputs = []
    for t in range(5):
        a = {
            g: preact[g][:, t] + torch.einsum("bhp,hpo->bho", h, weight[:, :, j]) + bias[:, j]
            for j, g in enumerate("ifzo")
        }
        c = a["f"].sigmoid() * c + a["i"].exp() * a["z"].tanh()
        n = a["f"].sigmoid() * n + a["i"].exp()
        h = a["o"].sigmoid() * c / n
        outputs.append(_layer_norm(h, 0).flatten(-2) * (1 + block.head_merge.norm.weight))
    y = x + torch.stack(outputs, 1)
    inner = _layer_norm(y, block.feed_forward_norm.weight) @ block.feed_forward.proj_up.weight.T
    gate, up = inner.chunk(2, -1)
    expected = y + (F.gelu(gate) * up) @ block.feed_forward.proj_down.weight.T
    torch.testing.assert_close(block(x)[0], expected, atol=1e-10, rtol=0)


def test_large_block_caps_its_gates():
    block = _away_from_initial(MLSTMLargeBlock(8, num_heads=2))
    with torch.no_grad():
        block.igate.bias.fill_(1e6)
        block.fgate.bias.fill_(-1e6)
    inputs = block._cell_inputs(torch.randn(1, 3, 8, dtype=torch.float64))
    assert inputs[3].max().item() == pytest.approx(15.0)
    assert inputs[4].min().item() == pytest.approx(-15.0)
    assert torch.isfinite(block(torch.randn(1, 3, 8, dtype=torch.float64))[0]).all()


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0])
def test_inner_size_is_rounded_up(factor):
    assert MLSTMBlock(40, num_heads=2, projection_factor=factor).inner_dim == 64 * -(
        -int(40 * factor) // 64
    )


@pytest.mark.parametrize("block", [MLSTMBlock, SLSTMBlock, MLSTMLargeBlock])
def test_blocks_follow_the_protocol(block):
    made = block(8, num_heads=2)
    y, state = made(torch.randn(2, 3, 8))
    z, _ = made.step(torch.randn(2, 8), made.initial_state(2))
    assert (y.shape, z.shape) == ((2, 3, 8), (2, 8))
    assert type(state) is type(made.initial_state(2))
