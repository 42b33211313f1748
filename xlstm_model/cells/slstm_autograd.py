"""The sLSTM over a sequence as one operation, with a backward linear in its length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlstm_model.cells.checks import refuse_double_backward
from xlstm_model.cells.slstm_loop import (
    SLAB,
    Trajectory,
    backward_factors,
    run_backward,
    run_forward,
    stabilizer_gradient,
)
from xlstm_model.cells.states import compute_dtype


class SequenceSLSTM(torch.autograd.Function):
    """``(outputs, h, c, n, m)`` of a whole sequence; see ``slstm_sequence`` for the arguments.

    Keeps the pre-activations and the states of all positions, eight numbers per unit and position.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates_preact: Tensor,
        recurrent_weight: Tensor,
        bias: Tensor,
        h: Tensor,
        c: Tensor,
        n: Tensor,
        m: Tensor,
        mask: Tensor | None,
        sigmoid: bool,
    ) -> tuple[Tensor, ...]:
        """Run the loop; the state is in the dtype of calculation."""
        dtype = compute_dtype(gates_preact.dtype)
        B, S, _, NH, DH = gates_preact.shape
        with torch.autocast(gates_preact.device.type, enabled=False):
            raw = torch.empty(S, NH, B, 4, DH, dtype=dtype, device=gates_preact.device)
            by_time = gates_preact.permute(1, 3, 0, 2, 4)
            torch.add(by_time, bias.to(dtype).unsqueeze(1), out=raw)
            real = None if mask is None else mask.t()[:, None, :, None]
            if real is not None:
                raw.masked_fill_(~real.unsqueeze(3), 0.0)
            weight = recurrent_weight.to(dtype).flatten(2)
            states = run_forward(
                raw, weight, [x.transpose(0, 1) for x in (h, c, n, m)], real, sigmoid
            )
            outputs = states.h[1:].permute(2, 0, 1, 3).to(gates_preact.dtype, copy=True)
            if mask is not None:
                outputs.masked_fill_(~mask[:, :, None, None], 0.0)
        ctx.save_for_backward(raw, weight, mask, *states)
        ctx.sigmoid = sigmoid
        ctx.dtypes = [x.dtype for x in (gates_preact, recurrent_weight, bias, h, c, n, m)]
        ctx.set_materialize_grads(False)
        return outputs, *(x[-1].transpose(0, 1).clone() for x in states)

    @staticmethod
    def backward(
        ctx: Any, grad_outputs: Tensor | None, *grad_state: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the gates, the weight, the bias and the state."""
        refuse_double_backward("slstm_reference")
        raw, weight, mask, *states = ctx.saved_tensors
        with torch.autocast(raw.device.type, enabled=False):
            grads = _backward(
                raw, weight, mask, Trajectory(*states), grad_outputs, grad_state, ctx.sigmoid
            )
        cast = [grad.to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True)]
        return *cast, None, None


def _backward(
    raw: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    states: Trajectory,
    grad_outputs: Tensor | None,
    grad_state: tuple[Tensor | None, ...],
    sigmoid: bool,
) -> list[Tensor]:
    S, NH, B, _, DH = raw.shape
    real = None if mask is None else mask.t()[:, None, :, None]
    if grad_outputs is None:
        grad_h = raw.new_zeros(S, NH, B, DH)
    else:
        grad_h = grad_outputs.permute(1, 2, 0, 3).to(raw.dtype)
        if real is not None:
            grad_h = torch.where(real, grad_h, 0.0)
    given = [
        torch.zeros_like(states.h[0]) if grad is None else grad.transpose(0, 1)
        for grad in grad_state
    ]
    extra, grad_m = None, torch.zeros_like(given[3])
    if any(grad is not None for grad in grad_state[1:]):
        end = given[3] - given[1] * states.c[-1] - given[2] * states.n[-1]
        extra, grad_m = stabilizer_gradient(raw, states.m, end, real, sigmoid)
    carry = (given[0], torch.stack(given[1:3], dim=2))
    grad_weight = torch.zeros_like(weight)
    grad_raw = torch.empty_like(raw)
    transposed = weight.transpose(1, 2).contiguous()
    for first in range((S - 1) // SLAB * SLAB, -1, -SLAB):
        part, borders = slice(first, first + SLAB), slice(first, first + SLAB + 1)
        real_part = None if real is None else real[part]
        slab_states = Trajectory(*(x[borders] for x in states))
        factors = backward_factors(raw[part], slab_states, real_part, sigmoid)
        grad_raw[part], carry = run_backward(
            factors,
            transposed,
            grad_h[part],
            None if extra is None else extra[part],
            real_part,
            carry,
        )
        before = slab_states.h[:-1].transpose(0, 1).flatten(1, 2)  # (NH, T · B, DH)
        grad_weight.baddbmm_(
            before.transpose(1, 2), grad_raw[part].transpose(0, 1).flatten(3).flatten(1, 2)
        )
    grad_h0, grad_cn = carry
    # c and n of the start came divided by exp(m): m scales both.
    grad_m = grad_m + (grad_cn[:, :, 0] * states.c[0]) + (grad_cn[:, :, 1] * states.n[0])
    state = [x.transpose(0, 1) for x in (grad_h0, *grad_cn.unbind(2), grad_m)]
    return [
        grad_raw.permute(2, 0, 3, 1, 4),
        grad_weight.unflatten(2, (4, DH)),
        grad_raw.sum((0, 2)),
        *state,
    ]
