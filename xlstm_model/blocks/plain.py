"""Whether a block's parts are just what their classes say, so that a kernel may stand for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from xlstm_model.blocks.head_merge import HeadMerge
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.layers import (
    BlockDiagonalLinear,
    CausalConv1d,
    FeatureNorm,
    GatedFeedForward,
    HeadwiseNorm,
)
from xlstm_model.layers.plain import is_plain
from xlstm_model.native import library, mixing

Weights = tuple[Tensor | None, ...]

if TYPE_CHECKING:
    from xlstm_model.blocks.mlstm import MLSTMBlock
    from xlstm_model.blocks.slstm import SLSTMBlock


def nobody_watches() -> bool:
    """Whether no compiler, function transform, autocast or hook on all modules is active."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.is_autocast_enabled("cpu")
        or _has_any_global_hook()
    )


def can_read(tensors: Iterable[Tensor | None]) -> bool:
    """Whether the kernels can read these as they are: ``library.fits``, and contiguous.

    >>> can_read([torch.zeros(2, 3).t()])
    False
    """
    tensors = tuple(tensors)
    return library.fits(*tensors) and all(x is None or x.is_contiguous() for x in tensors)


def is_dropping(block: nn.Module) -> bool:
    """Whether a block's dropout does anything, or something else stands in its place."""
    dropout = block._modules["dropout"]
    return not is_plain(dropout, nn.Dropout) or (dropout.training and dropout.p > 0)


def mlstm_weights(block: MLSTMBlock) -> Weights | None:
    """Weights of a published mLSTM block as its kernels take them, None if it is another one.

    Norm, up-projection, taps and bias of the convolution, q, k, v, both gates, their biases, norm
    after the cell, skip, down-projection; None among them where a part was left out.
    """
    parts = block._modules
    project = [parts[name] for name in ("q_proj", "k_proj", "v_proj")]
    linear = [parts[name] for name in ("proj_up", "igate", "fgate", "proj_down")]
    cell = parts["recurrence"]
    size = mixing.GROUP_SIZE
    if not (
        all(is_plain(layer, BlockDiagonalLinear) for layer in project)
        and all(is_plain(layer, nn.Linear) for layer in linear)
        and all(layer.features_in == size * layer.num_blocks for layer in project)
        and is_plain(cell, MLSTMRecurrence)
        and cell.normalizer
    ):
        return None
    norm, conv, merge = (
        _norm(parts.get("norm")),
        _conv(parts.get("conv")),
        _merge(parts["head_merge"]),
    )
    if norm is None or conv is None or merge is None:
        return None
    up, igate, fgate, down = (layer._parameters for layer in linear)
    return (
        *norm,
        up["weight"],
        *conv,
        *(layer._parameters["weight"] for layer in project),
        *(igate["weight"], fgate["weight"], igate["bias"], fgate["bias"]),
        *merge,
        block._parameters["skip"],
        down["weight"],
    )


def slstm_weights(block: SLSTMBlock, *, feed_forward: bool = True) -> Weights | None:
    """Weights of a published sLSTM block as its kernels take them, None if it is another one.

    Norm, taps and bias of the convolution, gates that read it and gates that don't, recurrent
    weight and bias, norm after the cell, norm, up- and down-projection of the feed-forward layer;
    None among them where a part was left out. The last three only matter with ``feed_forward``,
    and are None without.
    """
    parts = block._modules
    gates = [parts.get(name) for name in ("convolved_gates", "raw_gates")]
    cell = parts["recurrence"]
    if not (
        all(layer is None or is_plain(layer, BlockDiagonalLinear) for layer in gates)
        and is_plain(cell, SLSTMRecurrence)
        and cell.cell == "slstm"
    ):
        return None
    norm, conv, merge = (
        _norm(parts.get("norm")),
        _conv(parts.get("conv")),
        _merge(parts["head_merge"]),
    )
    layer = parts.get("feed_forward") if feed_forward else None
    inner = feed_forward_weights(parts.get("feed_forward_norm"), layer)
    if norm is None or conv is None or merge is None or inner is None:
        return None
    if layer is not None and is_dropping(layer):
        return None
    return (
        *norm,
        *conv,
        *(None if layer is None else layer._parameters["weight"] for layer in gates),
        *(cell._parameters["recurrent_weight"], cell._parameters["bias"]),
        *merge,
        *inner,
    )


def _norm(norm: nn.Module) -> Weights | None:
    if is_plain(norm, nn.Identity):
        return (None,)
    return (norm._parameters["weight"],) if is_plain(norm, FeatureNorm) else None


def _conv(conv: nn.Module | None) -> Weights | None:
    if conv is None:
        return None, None
    if not is_plain(conv, CausalConv1d) or conv.kernel_size > mixing.MAX_TAPS:
        return None
    return conv._parameters["weight"], conv._parameters["bias"]


def _merge(merge: nn.Module) -> Weights | None:
    if not is_plain(merge, HeadMerge):
        return None
    norm = merge._modules.get("norm")
    if norm is None:
        return (None,)
    return (norm._parameters["weight"],) if is_plain(norm, HeadwiseNorm) else None


def feed_forward_weights(norm: nn.Module | None, inner: nn.Module | None) -> Weights | None:
    """Weights of norm, up- and down-projection of the feed-forward layer.

    None among them where a part was left out; None alone if the layer is another one.
    """
    if inner is None:
        return None, None, None
    if not is_plain(inner, GatedFeedForward) or inner.activation != "gelu":
        return None
    layers = inner._modules["proj_up"], inner._modules["proj_down"]
    if not all(is_plain(layer, nn.Linear) for layer in layers):
        return None
    if any(layer._parameters["bias"] is not None for layer in layers):
        return None
    scale = (None,) if norm is None else _norm(norm)
    return None if scale is None else (*scale, *(layer._parameters["weight"] for layer in layers))
