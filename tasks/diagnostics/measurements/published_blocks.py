"""The published blocks around the recurrences, put together from `published_equations`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tasks.diagnostics.declared import Declared
from tasks.diagnostics.measurements import published_equations as eq
from tasks.diagnostics.measurements.published_equations import Weights

LARGE_NORM_EPS = 1e-6
GATE_CAP = 15.0


def mlstm_block(x: Tensor, w: Weights, num_heads: int, declared: Declared) -> Tensor:
    """Figure 11: norm, up-projection, convolution, cell, head norm, skip, gate, down, residual."""
    inner, z = _prenorm(x, w, "norm.weight", declared) @ w["proj_up.weight"].T, None
    inner, z = inner.chunk(2, dim=-1)
    mixed = inner
    if declared.convolution:
        mixed = eq.causal_convolution(inner, w["conv.weight"], w.get("conv.bias"))
    mixed = eq.silu(mixed)
    q = eq.block_diagonal(mixed, w["q_proj.weight"])
    k = eq.block_diagonal(mixed, w["k_proj.weight"])
    v = eq.block_diagonal(inner, w["v_proj.weight"])
    together = torch.cat([q, k, v], dim=-1)
    h = eq.mlstm(
        *(part.unflatten(-1, (num_heads, -1)) for part in (q, k, v)),
        together @ w["igate.weight"].T + w["igate.bias"],
        together @ w["fgate.weight"].T + w["fgate.bias"],
        gate=declared.gate,
        normalizer=declared.mlstm_normalizer,
    )
    merged = eq.merged_heads(h, w.get("head_merge.norm.weight"), norm=declared.norm)
    y = ((merged + w["skip"] * mixed) * eq.silu(z)) @ w["proj_down.weight"].T
    return x + y if declared.residual else y


def slstm_block(x: Tensor, w: Weights, num_heads: int, declared: Declared) -> Tensor:
    """Figure 10: norm, convolution for the declared gates, cell, head norm; then feed-forward."""
    inner = _prenorm(x, w, "norm.weight", declared)
    mixed = inner
    if declared.convolution:
        mixed = eq.causal_convolution(inner, w["conv.weight"], w.get("conv.bias"))
        mixed = eq.silu(mixed)
    gates = _slstm_gates(inner, mixed, w, num_heads, declared)
    h = eq.slstm(
        gates,
        w["recurrence.recurrent_weight"],
        w["recurrence.bias"],
        gate=declared.gate,
        cell=declared.slstm_cell,
    )
    y = eq.merged_heads(h, w.get("head_merge.norm.weight"), norm=declared.norm)
    y = x + y if declared.residual else y
    if "feed_forward.proj_up.weight" not in w:
        return y
    gate, up = (
        _prenorm(y, w, "feed_forward_norm.weight", declared) @ w["feed_forward.proj_up.weight"].T
    ).chunk(2, dim=-1)
    gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    z = (gelu * up) @ w["feed_forward.proj_down.weight"].T
    return y + z if declared.residual else z


def mlstm_large_block(x: Tensor, w: Weights, num_heads: int, declared: Declared) -> Tensor:
    """xLSTM 7B: RMS norm, dense q, k, v, soft-capped gates, output gate, SwiGLU."""
    inner = eq.normalized(x, w["norm.weight"], rms=True, eps=LARGE_NORM_EPS)
    heads = (num_heads, -1)
    caps = [
        GATE_CAP * torch.tanh((inner @ w[f"{g}.weight"].T + w[f"{g}.bias"]) / GATE_CAP)
        for g in ("igate", "fgate")
    ]
    h = eq.mlstm(
        *((inner @ w[f"{n}_proj.weight"].T).unflatten(-1, heads) for n in "qkv"),
        *caps,
        gate=declared.gate,
        normalizer=True,
    )
    merged = eq.merged_heads(h, w["head_merge.norm.weight"], norm=True, eps=LARGE_NORM_EPS)
    gated = torch.sigmoid(inner @ w["ogate.weight"].T) * merged
    y = x + gated @ w["proj_down.weight"].T
    again = eq.normalized(y, w["feed_forward_norm.weight"], rms=True, eps=LARGE_NORM_EPS)
    gate, up = (again @ w["feed_forward.proj_up.weight"].T).chunk(2, dim=-1)
    return y + (eq.silu(gate) * up) @ w["feed_forward.proj_down.weight"].T


def _prenorm(x: Tensor, w: Weights, name: str, declared: Declared) -> Tensor:
    return eq.normalized(x, w[name]) if declared.norm else x


def _slstm_gates(
    inner: Tensor, mixed: Tensor, w: Weights, num_heads: int, declared: Declared
) -> Tensor:
    """Pre-activations (B, S, G, NH, DH); which source a gate reads is as declared.

    The two projections hold, per head, the gates they make side by side; the convolved ones come
    first in the order i, f, z, o.
    """
    names = "z" if declared.slstm_cell == "rnn" else "ifzo"
    width = inner.shape[-1] // num_heads
    parts = [w[n] for n in ("convolved_gates.weight", "raw_gates.weight") if n in w]
    pieces = [piece for part in parts for piece in part.split(width, dim=1)]
    convolved = declared.slstm_conv_gates if declared.convolution else ""
    outputs = []
    for name, piece in zip(names, pieces, strict=True):
        source = mixed if name in convolved else inner
        outputs.append(eq.block_diagonal(source, piece).unflatten(-1, (num_heads, width)))
    return torch.stack(outputs, dim=2)
