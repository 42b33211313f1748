"""The sLSTM on GPUs: one launch per direction for all positions, and its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells.slstm_loop import stabilizer_gradient
from xlstm_model.kernels import library
from xlstm_model.kernels.slstm_launches import (
    RESIDENT_HEAD,
    Kind,
    Plan,
    backward_launch,
    forward_launch,
    make_plan,
    weight_launch,
)
from xlstm_model.tracing import refuse_double_backward

__all__ = ["RESIDENT_HEAD", "SLSTM", "Kept", "Plan", "backward", "fits", "forward", "slstm"]

WIDEST_HEAD = {torch.bfloat16: 256, torch.float32: 256}
"""Units per head."""


class Kept(NamedTuple):
    """What the backward pass needs, in the layouts of ``cells.slstm_passes.Saved``."""

    raw: Tensor
    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


def fits(gates_preact: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the kernels can run this; weight and bias may have another dtype than the gates."""
    if gates_preact.numel() == 0 or not library.fits(gates_preact, weight, bias):
        return False
    return library.head_fits("sLSTM", gates_preact.shape[-1], WIDEST_HEAD, gates_preact.dtype)


def slstm(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor] | None,
    mask: Tensor | None,
    sigmoid: bool,
    plan: Plan | None = None,
) -> tuple[Tensor, ...]:
    """Outputs (B, S, NH, DH) and the final h, c, n, m of ``cells.slstm_sequence``."""
    start = (None,) * 4 if state is None else tuple(state)
    inputs = (gates_preact, recurrent_weight, bias, *start, mask, sigmoid)
    if torch.compiler.is_compiling():
        from xlstm_model.kernels.operators import slstm_op

        return slstm_op(*inputs)[:5]
    return SLSTM.apply(*inputs, plan)


def kind_of(
    gates: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    has_state: bool,
    sigmoid: bool,
    plan: Plan | None = None,
) -> Kind:
    """The kind of a call with these tensors."""
    B, S, _, NH, DH = gates.shape
    return Kind(
        (B, S, NH, DH),
        gates.dtype,
        (weight.dtype, bias.dtype),
        mask is not None,
        has_state,
        sigmoid,
        plan or make_plan(DH),
        gates.get_device(),
    )


def forward(
    kind: Kind,
    gates: Tensor,
    weight: Tensor,
    bias: Tensor,
    start: tuple[Tensor | None, ...],
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """Outputs, the final h, c, n and m, and the fields of ``Kept``.

    Raises:
        ValueError: If mask or state is on another device.
    """
    library.check_device(gates, *start, mask)
    B, S, NH, DH = kind.sizes
    gates = gates if gates.stride(-1) == 1 else gates.contiguous()
    wide = {"dtype": torch.float32, "device": gates.device}
    outputs = torch.empty(B, S, NH, DH, dtype=gates.dtype, device=gates.device)
    raw = torch.empty(S, NH, B, 4, DH, **wide)
    states = [torch.empty(S + 1, NH, B, DH, **wide) for _ in range(4)]
    end = [torch.empty(B, NH, DH, **wide) for _ in range(4)]
    if kind.has_state:
        start = tuple(x.float().contiguous() for x in start)
    forward_launch(kind, gates.stride()[:4])(
        gates, weight.contiguous(), bias.contiguous(), as_bytes(mask), *start, outputs, raw,
        *states, *end,
    )  # fmt: skip
    return outputs, *end, raw, *states


def backward(
    kind: Kind,
    kept: Kept,
    weight: Tensor,
    mask: Tensor | None,
    grad_outputs: Tensor | None,
    grad_state: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of gates (their dtype), weight, bias and the initial h, c, n, m (float32, None
    where there was none)."""
    B, S, NH, DH = kind.sizes
    extra, end, grad_m = None, None, None
    if any(x is not None for x in grad_state):
        like = kept.c[0]
        end = [
            torch.zeros_like(like) if x is None else x.transpose(0, 1).float().contiguous()
            for x in grad_state
        ]
        if any(x is not None for x in grad_state[1:]):
            real = None if mask is None else mask.t()[:, None, :, None]
            last = end[3] - end[1] * kept.c[-1] - end[2] * kept.n[-1]
            extra, grad_m = stabilizer_gradient(kept.raw, kept.m, last, real, kind.is_sigmoid)
    place = {"dtype": kind.dtype, "device": weight.device}
    if grad_outputs is None:
        grad_outputs = torch.zeros(B, S, NH, DH, **place)
    grad_gates = torch.empty(B, S, 4, NH, DH, **place)
    start = [kept.c.new_empty(NH, B, DH) if kind.has_state else None for _ in range(3)]
    backward_launch(kind, end is not None, extra is not None)(
        weight.contiguous(), as_bytes(mask), kept.raw, *kept[2:], grad_outputs.contiguous(), extra,
        *((None,) * 3 if end is None else end[:3]), grad_gates, *start,
    )  # fmt: skip
    launch, parts = weight_launch(kind)
    grad_weight = kept.h.new_empty(parts, NH, DH, 4, DH)
    grad_bias = kept.h.new_empty(parts, NH, 4, DH)
    launch(kept.h, grad_gates, grad_weight, grad_bias)
    grads = grad_gates, grad_weight.sum(0), grad_bias.sum(0)  # in a fixed order
    if not kind.has_state:
        return *grads, None, None, None, None
    through = start[1] * kept.c[0] + start[2] * kept.n[0]
    start.append(through if grad_m is None else grad_m + through)
    return *grads, *(x.transpose(0, 1) for x in start)


def as_bytes(mask: Tensor | None) -> Tensor | None:
    """A bool mask as the kernels read it."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


class SLSTM(torch.autograd.Function):
    """``slstm`` with its gradient."""

    @staticmethod
    def forward(ctx, gates, weight, bias, h, c, n, m, mask, sigmoid, plan):  # type: ignore[no-untyped-def]
        kind = kind_of(gates, weight, bias, mask, h is not None, sigmoid, plan)
        outputs, *rest = forward(kind, gates, weight, bias, (h, c, n, m), mask)
        ctx.save_for_backward(weight, mask, *rest[4:])
        ctx.kind = kind
        ctx.dtypes = [None if x is None else x.dtype for x in (gates, weight, bias, h, c, n, m)]
        ctx.set_materialize_grads(False)
        return outputs, *rest[:4]

    @staticmethod
    def backward(ctx, grad_outputs, *grad_state):  # type: ignore[no-untyped-def]
        refuse_double_backward("xlstm_model.cells.slstm_reference")
        weight, mask, *kept = ctx.saved_tensors
        grads = backward(ctx.kind, Kept(*kept), weight, mask, grad_outputs, grad_state)
        cast = (
            None if x is None else x.to(dtype) for x, dtype in zip(grads, ctx.dtypes, strict=True)
        )
        return *cast, None, None, None
