"""The published recurrences and blocks, written out position by position in float64.

Nothing here is stabilised, fused or batched over time: these are the equations as printed (Beck et
al. 2024, arXiv 2405.04517, equations 8 to 27 and figures 10 and 11; Beck et al. 2025, arXiv
2503.13427, for the large block; Hochreiter and Schmidhuber 1997; Cho et al. 2014), to compare fast
implementations with. Weights come as dictionaries of float64 tensors under the names of
`xlstm_model`'s blocks. Sequences are (B, S, features).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def silu(x: Tensor) -> Tensor:
    """x times the logistic function of x."""
    return x / (1 + torch.exp(-x))


def normalized(x: Tensor, scale: Tensor | None, *, rms: bool = False, eps: float = 1e-5) -> Tensor:
    """LayerNorm or RMSNorm of the last dimension; the scale is stored minus 1."""
    centre = 0.0 if rms else x.mean(dim=-1, keepdim=True)
    spread = (x - centre).square().mean(dim=-1, keepdim=True)
    y = (x - centre) / torch.sqrt(spread + eps)
    return y if scale is None else y * (1 + scale)


def block_diagonal(x: Tensor, weight: Tensor) -> Tensor:
    """y_g = W_g x_g for groups of features; weight (G, out, in)."""
    groups, _, width = weight.shape
    pieces = [x[..., g * width : (g + 1) * width] @ weight[g].T for g in range(groups)]
    return torch.cat(pieces, dim=-1)


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each channel on its own: y_t = b + sum_j w_j x_{t - (k - 1) + j}; weight (C, 1, k)."""
    kernel = weight.shape[-1]
    outputs = []
    for t in range(x.shape[1]):
        y = torch.zeros_like(x[:, 0]) if bias is None else bias.expand_as(x[:, 0])
        for j in range(kernel):
            source = t - (kernel - 1) + j
            if source >= 0:
                y = y + weight[:, 0, j] * x[:, source]
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def mlstm(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, *, gate: str, normalizer: bool
) -> Tensor:
    """Matrix memory: C = sigma(f) C + e^i (k / sqrt d) v^T, n alike, h = C^T q / max(|n^T q|, 1).

    Args:
        q, k, v: (B, S, NH, DH).
        i, f: Gate pre-activations (B, S, NH).
        gate: `exp` as published, or `sigmoid` for the input gate.
        normalizer: False gives h = C^T q.
    """
    batch, length, heads, width = q.shape
    memory = q.new_zeros(batch, heads, width, v.shape[-1])
    norm = q.new_zeros(batch, heads, width)
    outputs = []
    for t in range(length):
        write = torch.exp(i[:, t]) if gate == "exp" else torch.sigmoid(i[:, t])
        keep = torch.sigmoid(f[:, t])
        key = k[:, t] / math.sqrt(width)
        outer = key[..., :, None] * v[:, t][..., None, :]
        memory = keep[..., None, None] * memory + write[..., None, None] * outer
        norm = keep[..., None] * norm + write[..., None] * key
        read = (memory * q[:, t][..., :, None]).sum(dim=-2)
        size = (norm * q[:, t]).sum(dim=-1).abs().clamp(min=1.0)
        outputs.append(read / size[..., None] if normalizer else read)
    return torch.stack(outputs, dim=1)


def slstm(gates: Tensor, recurrent: Tensor, bias: Tensor, *, gate: str, cell: str) -> Tensor:
    """Scalar memory: c = sigma(f) c + e^i tanh(z), n = sigma(f) n + e^i, h = sigma(o) c / n.

    Args:
        gates: Pre-activations (B, S, G, NH, DH) in the order i, f, z, o (only z for `rnn`).
        recurrent: (NH, DH in, G, DH out).
        bias: (NH, G, DH).
        gate: `exp` as published, or `sigmoid` for the input gate.
        cell: `slstm`; `lstm` (no n, h = sigma(o) tanh(c)) or `rnn` (h = tanh(z)).
    """
    batch, length, _, heads, width = gates.shape
    h = gates.new_zeros(batch, heads, width)
    c, n = torch.zeros_like(h), torch.zeros_like(h)
    outputs = []
    for t in range(length):
        mixed = torch.stack(
            [
                torch.stack([h[:, head] @ recurrent[head, :, g] for head in range(heads)], dim=1)
                for g in range(recurrent.shape[2])
            ],
            dim=1,
        )
        raw = gates[:, t] + mixed + bias.transpose(0, 1)
        if cell == "rnn":
            h = torch.tanh(raw[:, 0])
        else:
            i, f, z, o = raw.unbind(1)
            write = torch.sigmoid(i) if cell == "lstm" or gate == "sigmoid" else torch.exp(i)
            keep = torch.sigmoid(f)
            c, n = keep * c + write * torch.tanh(z), keep * n + write
            h = torch.sigmoid(o) * (torch.tanh(c) if cell == "lstm" else c / n)
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def merged_heads(h: Tensor, scale: Tensor | None, *, norm: bool, eps: float = 1e-5) -> Tensor:
    """Normalise each head on its own and lay heads side by side; heads of size 1 go together."""
    if not norm:
        return h.flatten(-2)
    flat = h.flatten(-2)
    y = normalized(flat if h.shape[-1] == 1 else h, None, eps=eps)
    y = y if h.shape[-1] == 1 else y.flatten(-2)
    return y * (1 + scale)


def torch_lstm(x: Tensor, w: Weights, layer: int) -> Tensor:
    """One layer of `nn.LSTM`, gates in the order i, f, g, o."""
    width = w[f"weight_hh_l{layer}"].shape[1]
    h = x.new_zeros(len(x), width)
    c, outputs = torch.zeros_like(h), []
    for t in range(x.shape[1]):
        raw = x[:, t] @ w[f"weight_ih_l{layer}"].T + h @ w[f"weight_hh_l{layer}"].T
        raw = raw + w.get(f"bias_ih_l{layer}", 0) + w.get(f"bias_hh_l{layer}", 0)
        i, f, g, o = raw.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def torch_gru(x: Tensor, w: Weights, layer: int) -> Tensor:
    """One layer of `nn.GRU`, gates in the order r, z, n."""
    width = w[f"weight_hh_l{layer}"].shape[1]
    h, outputs = x.new_zeros(len(x), width), []
    for t in range(x.shape[1]):
        given = x[:, t] @ w[f"weight_ih_l{layer}"].T + w.get(f"bias_ih_l{layer}", 0)
        kept = h @ w[f"weight_hh_l{layer}"].T + w.get(f"bias_hh_l{layer}", 0)
        r, z, n = given.chunk(3, dim=1)
        hr, hz, hn = kept.chunk(3, dim=1)
        update = torch.sigmoid(z + hz)
        h = (1 - update) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + update * h
        outputs.append(h)
    return torch.stack(outputs, dim=1)
