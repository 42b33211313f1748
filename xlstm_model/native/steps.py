"""One position of either cell in compiled kernels, where no gradient is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from xlstm_model.native import library


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels can take a step: no gradient, no tracing, and ``library.fits``."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    return library.fits(*tensors)


def mlstm_step(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    state: tuple[Tensor, Tensor, Tensor],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output and next c, n, m; arguments as of ``cells.mlstm_step``."""
    q, _, v, *_ = inputs
    (B, NH, DK), DV = q.shape, v.shape[-1]
    given = [x.contiguous() for x in (*inputs, *state)]
    results = [torch.empty(B, NH, DV), *(torch.empty_like(x) for x in given[5:])]
    library.call("mlstm_step", [B, NH, DK, DV], [*given, *results], B * NH, [eps])
    return tuple(results)


def slstm_step(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    sigmoid: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Next h, c, n, m; arguments as of ``cells.slstm_step``."""
    B, _, NH, DH = gates_preact.shape
    given = [x.contiguous() for x in (gates_preact, recurrent_weight, bias, *state)]
    results = [torch.empty_like(x) for x in given[3:]]
    library.call("slstm_step", [B, NH, DH, int(sigmoid)], [*given, *results], B)
    return tuple(results)
