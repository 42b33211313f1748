"""What stands around the cells in their blocks, in one pass over memory where kernels fit.

Without compiled kernels, in dtypes they do not know, and where a compiler or a function transform
watches, the same is computed by the layers one after another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.kernels import convolution, rows
from xlstm_model.layers.block_diagonal import BlockDiagonalLinear
from xlstm_model.layers.causal_conv import CausalConv1d
from xlstm_model.layers.norm import HeadwiseNorm
from xlstm_model.layers.plain import is_plain
from xlstm_model.native import library, mixing


class MixedInputs(NamedTuple):
    """What an mLSTM block feeds its cell."""

    mixed: Tensor
    """SiLU of the convolution (B, S, C), also what the learnable skip takes."""
    q: Tensor
    """(B, S, C), from ``mixed``."""
    k: Tensor
    """(B, S, C), from ``mixed``."""
    v: Tensor
    """(B, S, C), from the input of the convolution."""
    igate_preact: Tensor
    """(B, S, NH), from q, k and v."""
    fgate_preact: Tensor
    """(B, S, NH), from q, k and v."""


def conv_silu(
    conv: CausalConv1d | None, x: Tensor, mask: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Causal convolution, then SiLU.

    Args:
        conv: None for SiLU alone.
        x: (B, S, C), 0 at padding.
        mask: Bool (B, S), True = real.
        state: The convolution's state, zeros when absent.

    Returns:
        (B, S, C), 0 at padding, and the convolution's state after the last real position of each
        sample; (B, 0, C) without a convolution.

    >>> y, state = conv_silu(CausalConv1d(4, 3), torch.zeros(2, 5, 4))
    >>> y.shape, state.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 2, 4]))
    """
    if conv is None:
        return F.silu(x), x[:, :0]
    is_whole = mask is None and state is None
    if is_whole and convolution.fits(x, conv.weight, conv.bias) and is_plain(conv, CausalConv1d):
        return convolution.conv_silu(x, conv.weight, conv.bias), conv.next_state(x)
    is_short = conv.kernel_size <= mixing.MAX_TAPS
    if not (is_short and _fits((x,), (conv.weight, conv.bias)) and is_plain(conv, CausalConv1d)):
        y, state = conv(x, mask, state)
        return F.silu(y), state
    start = conv.initial_state(len(x)) if state is None else state
    nothing = [None] * (len(mixing.MixParameters._fields) - 2)
    mixed, *_ = mixing.mix(x, start, mask, *_conv_weights(conv), *nothing)
    return mixed, conv.next_state(x, mask, state)


def mlstm_inputs(
    conv: CausalConv1d | None,
    projections: tuple[BlockDiagonalLinear, BlockDiagonalLinear, BlockDiagonalLinear],
    gates: tuple[nn.Linear, nn.Linear],
    x: Tensor,
    mask: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[MixedInputs, Tensor]:
    """Convolution with SiLU, then queries, keys and values, then both gates of an mLSTM block.

    Beck et al. 2024, figure 11: q and k read the convolution, v what stands before it, the gates
    all three.

    Args:
        conv: The block's convolution, None for SiLU alone.
        projections: Of q, k and v, without bias, C to C.
        gates: Of input and forget gate, over q, k and v side by side, 3 C to NH.
        x: (B, S, C), 0 at padding.
        mask: Bool (B, S), True = real.
        state: The convolution's state, zeros when absent.

    Returns:
        What the cell takes, and the state as from ``conv_silu``.

    >>> project = [BlockDiagonalLinear(8, 8, 2, bias=False) for _ in range(3)]
    >>> gates = nn.Linear(24, 2), nn.Linear(24, 2)
    >>> inputs, _ = mlstm_inputs(CausalConv1d(8, 4), project, gates, torch.zeros(3, 5, 8))
    >>> inputs.q.shape, inputs.fgate_preact.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5, 2]))
    """
    weights = [layer.weight for layer in (*projections, *gates)]
    weights += [layer.bias for layer in gates]
    kernel_size = 0 if conv is None else conv.kernel_size
    if (
        kernel_size <= mixing.MAX_TAPS
        and all(w.shape[1:] == (mixing.GROUP_SIZE, mixing.GROUP_SIZE) for w in weights[:3])
        and all(layer.bias is not None for layer in gates)
        and _fits((x,), (*_conv_weights(conv), *weights))
        and (conv is None or is_plain(conv, CausalConv1d))
        and all(is_plain(layer, BlockDiagonalLinear) for layer in projections)
        and all(is_plain(layer, nn.Linear) for layer in gates)
    ):
        start = state
        if conv is not None and state is None:
            start = conv.initial_state(len(x))
        mixed, q, k, v, preact = mixing.mix(x, start, mask, *_conv_weights(conv), *weights)
        after = x[:, :0] if conv is None else conv.next_state(x, mask, state)
        return MixedInputs(mixed, q, k, v, *preact.chunk(2, dim=-1)), after
    mixed, after = conv_silu(conv, x, mask, state)
    q, k, v = (layer(y) for layer, y in zip(projections, (mixed, mixed, x), strict=True))
    return MixedInputs(mixed, q, k, v, *_both_gates(gates, torch.cat([q, k, v], dim=-1))), after


def _both_gates(gates: tuple[nn.Linear, nn.Linear], x: Tensor) -> tuple[Tensor, ...]:
    """Two maps of the same input; on a GPU one product, so that it is read once."""
    is_known = x.is_cuda and not torch.compiler.is_compiling()
    if is_known and all(is_plain(gate, nn.Linear) and gate.bias is not None for gate in gates):
        return linear_side_by_side(gates, x)
    return tuple(gate(x) for gate in gates)


def linear_side_by_side(layers: tuple[nn.Linear, ...], x: Tensor) -> tuple[Tensor, ...]:
    """What layers of the same widths make of one input, as one product.

    >>> layers = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> [y.shape for y in linear_side_by_side(layers, torch.zeros(2, 4))]
    [torch.Size([2, 3]), torch.Size([2, 3])]
    """
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).chunk(len(layers), dim=-1)


def gated_merge(
    h: Tensor, norm: HeadwiseNorm | None, skip: Tensor, mixed: Tensor, z: Tensor
) -> Tensor:
    """``(norm(h) + skip · mixed) · SiLU(z)``, what an mLSTM block makes of its cell's output.

    Args:
        h: (..., NH, DH).
        norm: Of each head, or of other groups of the same channels; None for none.
        skip: (C), C = NH · DH.
        mixed: (..., C).
        z: (..., C).

    Returns:
        (..., C).

    >>> h, x = torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 12)
    >>> gated_merge(h, HeadwiseNorm(3, 4), torch.ones(12), x, x).shape
    torch.Size([1, 2, 12])
    """
    if norm is not None:
        h = h.flatten(-2).unflatten(-1, (norm.num_heads, norm.head_dim))
    groups, eps = (1, 0.0) if norm is None else (norm.num_heads, norm.eps)
    is_layer_norm = norm is None or (norm.kind == "layer" and is_plain(norm, HeadwiseNorm))
    weight = None if norm is None else norm.weight
    fits_gpu = is_layer_norm and rows.fits(len(skip) // groups, h, mixed, z, skip, weight)
    if fits_gpu and _is_even(h, mixed, z, skip):
        return rows.merge(h.flatten(-2), mixed, z, weight, skip, groups, eps)
    scale = None if weight is None else 1 + weight
    is_known = h.dim() == 4 and mixed.dim() == z.dim() == 3 and is_layer_norm
    if is_known and _fits((mixed, z), (h, skip, scale)) and _is_even(h, mixed, z, skip):
        return mixing.merge(h.contiguous(), mixed, z, scale, skip, eps)
    merged = h.flatten(-2) if norm is None else norm(h)
    return (merged + skip * mixed) * F.silu(z)


def _is_even(h: Tensor, mixed: Tensor, z: Tensor, skip: Tensor) -> bool:
    """Whether nothing has to be broadcast."""
    channels = h.shape[-2] * h.shape[-1]
    is_wide = channels == mixed.shape[-1] == z.shape[-1] == len(skip)
    return is_wide and h.shape[:-2] == mixed.shape[:-1] == z.shape[:-1]


def _conv_weights(conv: CausalConv1d | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if conv is None else (conv.weight, conv.bias)


def _fits(sequences: tuple[Tensor, ...], weights: Iterable[Tensor | None]) -> bool:
    """Whether the kernels can take these sequences (B, S, C) and weights."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if not library.fits(*sequences, *weights):
        return False
    for x in sequences:
        batch, row, feature = x.stride()
        if feature != 1 or batch != x.shape[1] * row:
            return False
    return True
