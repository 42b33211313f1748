"""Forward and backward pass of the sLSTM over a sequence, linear in its length."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlstm_model.cells.slstm_loop import (
    SLAB,
    Trajectory,
    backward_factors,
    run_backward,
    run_forward,
    stabilizer_gradient,
)
from xlstm_model.cells.states import compute_dtype
from xlstm_model.native import slstm as native


class Saved(NamedTuple):
    """What the backward pass needs: eight numbers per unit and position, and the weight."""

    raw: Tensor
    """Pre-activations (S, NH, B, 4, DH)."""
    weight: Tensor
    """Recurrent weight in the dtype of calculation (NH, DH, 4 · DH)."""
    h: Tensor
    """Outputs fed back, at the borders of the positions (S + 1, NH, B, DH)."""
    c: Tensor
    """Memories (S + 1, NH, B, DH)."""
    n: Tensor
    """Normalisers (S + 1, NH, B, DH)."""
    m: Tensor
    """Stabilisers (S + 1, NH, B, DH)."""


def forward_pass(
    gates_preact: Tensor,
    recurrent_weight: Tensor,
    bias: Tensor,
    start: tuple[Tensor, Tensor, Tensor, Tensor],
    mask: Tensor | None,
    sigmoid: bool,
) -> tuple[Tensor, Saved]:
    """Outputs and states of a whole sequence.

    Arguments are those of ``slstm_sequence``; the state is given, in the dtype of calculation, and
    ``sigmoid`` says whether the input gate is one.

    Returns:
        Outputs (B, S, NH, DH), and what to keep.
    """
    dtype = compute_dtype(gates_preact.dtype)
    B, S, _, NH, DH = gates_preact.shape
    raw = torch.empty(S, NH, B, 4, DH, dtype=dtype, device=gates_preact.device)
    torch.add(gates_preact.permute(1, 3, 0, 2, 4), bias.to(dtype).unsqueeze(1), out=raw)
    real = _real(mask)
    if real is not None:
        raw.masked_fill_(~real.unsqueeze(3), 0.0)
    weight = recurrent_weight.to(dtype).flatten(2).clone(memory_format=torch.contiguous_format)
    states = Trajectory(*(raw.new_empty(S + 1, NH, B, DH) for _ in range(4)))
    for states_of_kind, first in zip(states, start, strict=True):
        states_of_kind[0] = first.transpose(0, 1)
    if native.fits(raw):
        native.run_forward(raw, weight, states, mask, sigmoid)
    else:
        run_forward(raw, weight, states, real, sigmoid)
    outputs = torch.empty(B, S, NH, DH, dtype=gates_preact.dtype, device=raw.device)
    outputs.copy_(states.h[1:].permute(2, 0, 1, 3))
    if mask is not None:
        outputs.masked_fill_(~mask[:, :, None, None], 0.0)
    return outputs, Saved(raw, weight, *states)


def backward_pass(
    saved: Saved,
    mask: Tensor | None,
    sigmoid: bool,
    grad_outputs: Tensor | None,
    grad_state: tuple[Tensor | None, ...],
) -> list[Tensor]:
    """Gradients of a whole sequence.

    Args:
        saved: What the forward pass kept.
        mask: As given to the forward pass.
        sigmoid: As given to the forward pass.
        grad_outputs: Gradient of the outputs, None for none.
        grad_state: Gradients of the final h, c, n and m, None for none.

    Returns:
        Gradients of the gates, the weight, the bias and the initial h, c, n and m, in the dtype of
        calculation.
    """
    raw, weight, *states = saved
    states = Trajectory(*states)
    real = _real(mask)
    given = [
        torch.zeros_like(states.h[0]) if grad is None else grad.transpose(0, 1).contiguous()
        for grad in grad_state
    ]
    extra, grad_m = None, torch.zeros_like(given[3])
    if any(grad is not None for grad in grad_state[1:]):
        end = given[3] - given[1] * states.c[-1] - given[2] * states.n[-1]
        extra, grad_m = stabilizer_gradient(raw, states.m, end, real, sigmoid)
    if grad_outputs is None:
        S, NH, B, _, DH = raw.shape
        grad_outputs = raw.new_zeros(B, S, NH, DH)
    if native.fits(raw):
        carry = [x.clone() for x in given[:3]]
        grad_raw = native.run_backward(
            raw, weight, states, mask, sigmoid, grad_outputs.to(raw.dtype), extra, carry
        )
    else:
        grad_raw, carry = _loop_backward(saved, real, sigmoid, grad_outputs, extra, given[:3])
    # c and n of the start came divided by exp(m): m scales both.
    grad_m = grad_m + carry[1] * states.c[0] + carry[2] * states.n[0]
    before = states.h[:-1].transpose(0, 1).flatten(1, 2)  # (NH, S · B, DH)
    into = grad_raw.transpose(0, 1).flatten(3).flatten(1, 2)  # (NH, S · B, 4 · DH)
    return [
        grad_raw.permute(2, 0, 3, 1, 4),
        torch.bmm(before.transpose(1, 2), into).unflatten(2, (4, -1)),
        # A product with ones: summing over the outer dimensions is several times slower.
        torch.bmm(into.new_ones(len(into), 1, into.shape[1]), into).view(len(into), 4, -1),
        *(x.transpose(0, 1) for x in (*carry, grad_m)),
    ]


def _loop_backward(
    saved: Saved,
    real: Tensor | None,
    sigmoid: bool,
    grad_outputs: Tensor,
    extra: Tensor | None,
    given: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Gradient of the pre-activations, and of the first h, c and n, in PyTorch's operations."""
    raw, weight, *states = saved
    grad_h = grad_outputs.permute(1, 2, 0, 3).to(raw.dtype)
    if real is not None:
        grad_h = torch.where(real, grad_h, 0.0)
    carry = (given[0], torch.stack(given[1:], dim=2))
    transposed = weight.transpose(1, 2).contiguous()
    grad_raw = torch.empty_like(raw)
    for first in range((len(raw) - 1) // SLAB * SLAB, -1, -SLAB):
        part, borders = slice(first, first + SLAB), slice(first, first + SLAB + 1)
        real_part = None if real is None else real[part]
        slab_states = Trajectory(*(x[borders] for x in states))
        factors = backward_factors(raw[part], slab_states, real_part, sigmoid)
        extra_part = None if extra is None else extra[part]
        grad_raw[part], carry = run_backward(
            factors, transposed, grad_h[part], extra_part, real_part, carry
        )
    return grad_raw, [carry[0], *carry[1].unbind(2)]


def _real(mask: Tensor | None) -> Tensor | None:
    """Bool (B, S) to (S, 1, B, 1)."""
    return None if mask is None else mask.t()[:, None, :, None]
