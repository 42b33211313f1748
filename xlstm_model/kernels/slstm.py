"""The sLSTM on GPUs: one launch per direction for all positions, and its gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells.slstm_loop import stabilizer_gradient
from xlstm_model.kernels import library
from xlstm_model.tracing import refuse_double_backward

WIDEST_HEAD = {torch.bfloat16: 256, torch.float32: 256}
"""Units per head."""
RESIDENT_HEAD = {torch.bfloat16: 128, torch.float32: 64}
"""Units per head whose weights a program can hold in shared memory."""
UNITS_AT_ONCE = {torch.bfloat16: 64, torch.float32: 32}
"""Units whose weights a program reads at a time where it cannot hold all."""
ROWS_PER_TURN = 64
"""Positions times samples that enter the weights' gradient at once."""


class Plan(NamedTuple):
    """How the kernels cut their work."""

    samples: int
    """Samples per program."""
    warps: int
    """Warps per program of the forward loop."""
    backward_warps: int
    """The same of the backward loop."""


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


def make_plan(head_dim: int) -> Plan:
    """How to cut a call.

    >>> make_plan(32).samples
    16
    """
    width = library.power_of_two(head_dim)
    warps = 16 if width > 128 else min(8, width // 8)
    return Plan(16, warps, warps)


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


def forward(
    gates: Tensor,
    weight: Tensor,
    bias: Tensor,
    start: tuple[Tensor | None, ...],
    mask: Tensor | None,
    sigmoid: bool,
    plan: Plan,
) -> tuple[Tensor, ...]:
    """Outputs and the fields of ``Kept``."""
    from xlstm_model.kernels import slstm_kernels as kernels

    B, S, _, NH, DH = gates.shape
    gates = gates.detach()
    gates = gates if gates.stride(-1) == 1 else gates.contiguous()
    wide = {"dtype": torch.float32, "device": gates.device}
    outputs = torch.empty(B, S, NH, DH, dtype=gates.dtype, device=gates.device)
    raw = torch.empty(S, NH, B, 4, DH, **wide)
    states = [torch.empty(S + 1, NH, B, DH, **wide) for _ in range(4)]
    start = [None if x is None else x.detach().float().contiguous() for x in start]
    strides = (gates.stride(0), gates.stride(1), gates.stride(2), gates.stride(3))
    kernels.run_forward[(-(-B // plan.samples), NH)](
        gates, weight.detach().contiguous(), bias.detach().contiguous(), as_bytes(mask), *start,
        outputs, raw, *states, *strides, B, S, NH, DH,
        HAS_STATE=start[0] is not None, num_warps=plan.warps,
        **_options(gates.dtype, mask, sigmoid, plan, DH),
    )  # fmt: skip
    return outputs, raw, *states


def backward(
    kept: Kept,
    weight: Tensor,
    mask: Tensor | None,
    sigmoid: bool,
    plan: Plan,
    dtype: torch.dtype,
    grad_outputs: Tensor | None,
    grad_state: tuple[Tensor | None, ...],
) -> tuple[Tensor, ...]:
    """Gradients of gates (dtype), weight, bias and the initial h, c, n, m (float32)."""
    from xlstm_model.kernels import slstm_kernels as kernels

    S, NH, B, _, DH = kept.raw.shape
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
            extra, grad_m = stabilizer_gradient(kept.raw, kept.m, last, real, sigmoid)
    if grad_outputs is None:
        grad_outputs = torch.zeros(B, S, NH, DH, dtype=dtype, device=weight.device)
    grad_gates = torch.empty(B, S, 4, NH, DH, dtype=dtype, device=weight.device)
    start = [torch.empty_like(kept.c[0]) for _ in range(3)]
    kernels.run_backward[(-(-B // plan.samples), NH)](
        weight.detach().contiguous(), as_bytes(mask), kept.raw, *kept[2:],
        grad_outputs.contiguous(), extra, *((None,) * 3 if end is None else end[:3]), grad_gates,
        *start, B, S, NH, DH, HAS_END=end is not None, HAS_EXTRA=extra is not None,
        num_warps=plan.backward_warps, **_options(dtype, mask, sigmoid, plan, DH),
    )  # fmt: skip
    through = start[1] * kept.c[0] + start[2] * kept.n[0]
    start.append(through if grad_m is None else grad_m + through)
    return grad_gates, *_weight_gradient(kept.h, grad_gates), *(x.transpose(0, 1) for x in start)


def _weight_gradient(states_h: Tensor, grad_gates: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the weight (NH, DH, 4, DH) and bias (NH, 4, DH), in a fixed order of sums."""
    from xlstm_model.kernels import slstm_kernels as kernels

    B, S, _, NH, DH = grad_gates.shape
    width = library.power_of_two(DH)
    is_wide = width > 128  # tiles of three would not fit beside each other
    tile, warps, stages = (32, 8, 2) if is_wide else (min(width, 64), 4, 3)
    tiles = -(-DH // tile)
    turns = -(-S * B // ROWS_PER_TURN)
    parts = max(1, min(turns, 512 // (4 * NH * tiles)))
    per_part = -(-turns // parts) * ROWS_PER_TURN
    grad_weight = states_h.new_empty(parts, NH, DH, 4, DH)
    grad_bias = states_h.new_empty(parts, NH, 4, DH)
    kernels.weight_backward[(NH * 4, parts, tiles)](
        states_h, grad_gates, grad_weight, grad_bias, B, S, NH, DH, per_part, BT=ROWS_PER_TURN,
        BP=tile, BD=width, DTYPE=_triton_dtype(grad_gates.dtype),
        PRECISION=library.precision(grad_gates.dtype), num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return grad_weight.sum(0), grad_bias.sum(0)


def as_bytes(mask: Tensor | None) -> Tensor | None:
    """A bool mask as the kernels read it."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


def _options(
    dtype: torch.dtype, mask: Tensor | None, sigmoid: bool, plan: Plan, head_dim: int
) -> dict[str, object]:
    return {
        "HAS_MASK": mask is not None,
        "SIGMOID": sigmoid,
        "RESIDENT": library.power_of_two(head_dim) <= RESIDENT_HEAD[dtype],
        "BB": plan.samples,
        "BK": UNITS_AT_ONCE[dtype],
        "BD": library.power_of_two(head_dim),
        "DTYPE": _triton_dtype(dtype),
        "PRECISION": library.precision(dtype),
    }


def _triton_dtype(dtype: torch.dtype) -> object:
    import triton.language as tl

    return tl.bfloat16 if dtype == torch.bfloat16 else tl.float32


class SLSTM(torch.autograd.Function):
    """``slstm`` with its gradient."""

    @staticmethod
    def forward(ctx, gates, weight, bias, h, c, n, m, mask, sigmoid, plan):  # type: ignore[no-untyped-def]
        plan = plan or make_plan(gates.shape[-1])
        outputs, *kept = forward(gates, weight, bias, (h, c, n, m), mask, sigmoid, plan)
        ctx.save_for_backward(weight, mask, *kept)
        ctx.plan, ctx.sigmoid = plan, sigmoid
        ctx.dtypes = [None if x is None else x.dtype for x in (gates, weight, bias, h, c, n, m)]
        ctx.set_materialize_grads(False)
        return outputs, *(x[-1].transpose(0, 1).contiguous() for x in kept[1:])

    @staticmethod
    def backward(ctx, grad_outputs, *grad_state):  # type: ignore[no-untyped-def]
        refuse_double_backward("xlstm_model.cells.slstm_reference")
        weight, mask, *kept = ctx.saved_tensors
        grads = backward(
            Kept(*kept), weight, mask, ctx.sigmoid, ctx.plan, ctx.dtypes[0], grad_outputs,
            grad_state,
        )  # fmt: skip
        cast = (
            None if dtype is None else x.to(dtype)
            for x, dtype in zip(grads, ctx.dtypes, strict=True)
        )
        return *cast, None, None, None
