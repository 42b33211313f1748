"""The sLSTM recurrence over time and its gradient, in few operations per position.

Time comes first and heads before samples, (S, NH, B, ...), so that the recurrent product of one
position is one batch of matrix products on contiguous memory. Whatever does not depend on the
previous position is done for many positions at once: the input's share of the gates before the
forward loop, all factors of the gradient before the backward loop, weight gradients after it.

The stabiliser m carries no gradient of an output, as c and n are divided by the same exp(m); it
only matters for a gradient of the final state, see ``stabilizer_gradient``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SLAB = 64
"""Positions whose gradient factors are held at once."""


class Trajectory(NamedTuple):
    """States at the borders of the positions, each (S + 1, NH, B, DH); entry 0 is the start."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


def run_forward(
    raw: Tensor, weight: Tensor, states: Trajectory, real: Tensor | None, sigmoid: bool
) -> None:
    """Run the recurrence.

    Args:
        raw: Input's share of the gates with bias (S, NH, B, 4, DH), order i, f, z, o, finite;
            changed in place to the whole pre-activations.
        weight: Recurrent weight (NH, DH, 4 · DH).
        states: Entry 0 of each is given, the others are written.
        real: Bool (S, 1, B, 1), False where the state stays as it was, or None.
        sigmoid: Whether the input gate is a sigmoid rather than an exponential.
    """
    steps = [x.unbind(0) for x in states]
    gates = [x.unbind(0) for x in raw.unbind(3)]
    totals = raw.flatten(3).unbind(0)
    for t in range(len(raw)):
        totals[t].baddbmm_(steps[0][t], weight)
        before, after = ([x[s] for x in steps] for s in (t, t + 1))
        _advance([gate[t] for gate in gates], before, after, sigmoid)
        if real is not None:
            for old, new in zip(before, after, strict=True):
                torch.where(real[t], new, old, out=new)


def _advance(gates: list[Tensor], before: list[Tensor], after: list[Tensor], sigmoid: bool) -> None:
    igate, fgate, zgate, ogate = gates
    _, c, n, m = before
    h_next, c_next, n_next, m_next = after
    log_i = F.logsigmoid(igate) if sigmoid else igate
    carried = F.logsigmoid(fgate).add_(m)
    torch.maximum(carried, log_i, out=m_next)
    keep = carried.sub_(m_next).exp_()
    write = torch.sub(log_i, m_next).exp_()
    torch.mul(keep, c, out=c_next).addcmul_(write, torch.tanh(zgate))
    torch.addcmul(write, keep, n, out=n_next)
    torch.div(c_next, n_next, out=h_next).mul_(torch.sigmoid(ogate))


class Factors(NamedTuple):
    """What the backward loop multiplies with, for T positions."""

    per_gate: Tensor
    """(T, NH, B, 8, DH): of dh into dc, dn; of dh into o; of dc into i, f, z; of dn into i, f."""
    keep: Tensor
    """(T, NH, B, 1, DH): of dc and dn into the position before."""


def backward_factors(
    raw: Tensor, states: Trajectory, real: Tensor | None, sigmoid: bool
) -> Factors:
    """Derivatives of every position's update, from what the forward left.

    Args:
        raw: Whole pre-activations (T, NH, B, 4, DH).
        states: Borders of these positions (T + 1, NH, B, DH).
        real: Bool (T, 1, B, 1) or None.
        sigmoid: As in ``run_forward``.
    """
    igate, fgate, zgate, ogate = raw.unbind(3)
    log_i = F.logsigmoid(igate) if sigmoid else igate
    keep = (F.logsigmoid(fgate) + states.m[:-1]).sub_(states.m[1:]).exp_()
    write = (log_i - states.m[1:]).exp_()
    z, o = torch.tanh(zgate), torch.sigmoid(ogate)
    h, n = states.h[1:], states.n[1:]
    fade = torch.sigmoid(-fgate).mul_(keep)
    into_i = write * torch.sigmoid(-igate) if sigmoid else write
    factors = torch.stack(
        [
            o / n,
            -h / n,
            h * (1 - o),
            into_i * z,
            fade * states.c[:-1],
            write * (1 - z * z),
            into_i,
            fade * states.n[:-1],
        ],
        dim=3,
    )
    if real is not None:
        factors.masked_fill_(~real.unsqueeze(3), 0.0)
        keep.masked_fill_(~real, 1.0)
    return Factors(factors, keep.unsqueeze(3))


def run_backward(
    factors: Factors,
    weight: Tensor,
    grad_h: Tensor,
    extra: Tensor | None,
    real: Tensor | None,
    carry: tuple[Tensor, Tensor],
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run the gradient backwards over T positions.

    Args:
        factors: What ``backward_factors`` returned.
        weight: Recurrent weight transposed (NH, 4 · DH, DH).
        grad_h: Gradient of the outputs (T, NH, B, DH), 0 at padding.
        extra: Further gradient of the pre-activations (T, NH, B, 4, DH) or None.
        real: Bool (T, 1, B, 1) or None.
        carry: Gradients of h (NH, B, DH) and of c and n (NH, B, 2, DH) from later positions.

    Returns:
        Gradient of the pre-activations (T, NH, B, 4, DH) and the carry for earlier positions.
    """
    T, NH, B, _, DH = factors.per_gate.shape
    grad_raw = factors.keep.new_empty(T, NH, B, 4, DH)
    flat, parts = grad_raw.flatten(3), [grad_raw[:, :, :, p] for p in (slice(3), slice(2), 3)]
    dh, dcn = carry[0], carry[1].clone()
    dc, dn = dcn[:, :, :1], dcn[:, :, 1:]
    for t in range(T - 1, -1, -1):
        dh = dh + grad_h[t]
        factor = factors.per_gate[t]
        dcn.addcmul_(dh.unsqueeze(2), factor[:, :, :2])
        torch.mul(dc, factor[:, :, 3:6], out=parts[0][t])
        parts[1][t].addcmul_(dn, factor[:, :, 6:])
        torch.mul(dh, factor[:, :, 2], out=parts[2][t])
        if extra is not None:
            grad_raw[t] += extra[t]
        dcn.mul_(factors.keep[t])
        through = torch.bmm(flat[t], weight)
        dh = through if real is None else torch.where(real[t], through, dh)
    return grad_raw, (dh, dcn)


def stabilizer_gradient(
    raw: Tensor, m: Tensor, grad_m: Tensor, real: Tensor | None, sigmoid: bool
) -> tuple[Tensor, Tensor]:
    """Gradient of the final m, through the running maximum alone.

    Args:
        raw: Whole pre-activations (S, NH, B, 4, DH).
        m: Stabilisers at the borders (S + 1, NH, B, DH).
        grad_m: Gradient of the final m (NH, B, DH) at fixed ``c exp(m)`` and ``n exp(m)``.
        real: Bool (S, 1, B, 1) or None.
        sigmoid: As in ``run_forward``.

    Returns:
        Gradients of the pre-activations (S, NH, B, 4, DH) and of the first m (NH, B, DH).
    """
    igate, fgate = raw[:, :, :, 0], raw[:, :, :, 1]
    log_i = F.logsigmoid(igate) if sigmoid else igate
    is_carried = F.logsigmoid(fgate) + m[:-1] >= log_i
    if real is not None:
        is_carried = is_carried | ~real
    reaching = torch.cat([is_carried, torch.ones_like(is_carried[:1])]).flip(0)
    reaching = reaching.cumprod(0).flip(0) * grad_m  # (S + 1, ...): gradient of m at each border
    extra = torch.zeros_like(raw)
    into_i, into_f = reaching[1:] * ~is_carried, reaching[1:] * is_carried
    if real is not None:
        into_f = into_f * real
    extra[:, :, :, 0] = into_i * torch.sigmoid(-igate) if sigmoid else into_i
    extra[:, :, :, 1] = into_f * torch.sigmoid(-fgate)
    return extra, reaching[0]
