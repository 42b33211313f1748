"""Decay factors of the chunkwise mLSTM, from its gates alone.

Within a chunk let ``F_t`` be the sum of ``log f`` up to position t and ``b_s = log i_s - F_s``. The
weight of position s in output t is ``exp(b_s - M_t)`` with the stabiliser ``M_t = max(m_prev,
max_{s ≤ t} b_s)``, where ``m_prev`` is the state's ``m`` before the chunk: ``F_t`` cancels. These
tensors have no feature dimension, so they are held in float64 for the price of a few bytes, and the
exponents lose nothing to cancellation however hard the gates pull. Any stabiliser gives the same
cell output; it only has to be near the largest exponent.

Letters: N chunks of L positions, G = B · NH rows. Chunks come first, so that one chunk of all rows
is one block of memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_EXPONENT = {torch.float32: -64.0, torch.float64: -640.0}
"""Weights below the exponential of this, beside one of about 1, are taken as 0: products of smaller
ones would be denormal numbers, which slow matrix products several times over."""


class ChunkFactors(NamedTuple):
    """Factors of a sequence cut into N chunks of L positions.

    ``relative`` is float64, the others have the dtype of calculation. A position that is padding
    has ``log i = -inf`` and ``log f = 0``.
    """

    relative: Tensor
    """b + log scale (N, G, L): exponent with which a position is written."""
    peak: Tensor
    """M (N, G, L); 0 where nothing has been seen."""
    floor: Tensor
    """exp(-m_t) (N, G, L), the lower bound of the denominator, within the dtype's range."""
    read: Tensor
    """exp(m_prev - M_t) (N, G, L): share of the state before the chunk in output t."""
    write: Tensor
    """exp(log scale + b_s + F_L - m_next) (N, G, L): share of position s in the next state."""
    keep: Tensor
    """exp(m_prev + F_L - m_next) (N, G): share of the state before the chunk in the next."""
    last: Tensor
    """m after the last chunk (G,)."""


def stabilizer_path(
    log_i: Tensor, log_f: Tensor, m: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Running stabiliser of every position and chunk, in differentiable operations.

    Args:
        log_i: Log input gates (N, G, L).
        log_f: Log forget gates (N, G, L).
        m: Stabiliser of the state before the first chunk (G,).

    Returns:
        ``F``, ``b`` and ``M``, each (N, G, L), and the stabilisers ``m`` at the borders of the
        chunks (N + 1, G).
    """
    total = log_f.cumsum(-1)
    relative = log_i - total
    highest = torch.cummax(relative, -1).values
    borders = [m]
    for grown, top in zip(total[..., -1].unbind(0), highest[..., -1].unbind(0), strict=True):
        borders.append(grown + torch.maximum(borders[-1], top))
    border = torch.stack(borders)
    return total, relative, torch.maximum(border[:-1].unsqueeze(-1), highest), border


def stabilizer_path_backward(
    log_i: Tensor, log_f: Tensor, m: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the running stabiliser ``F + M`` of every position.

    Args:
        log_i: As for ``stabilizer_path``.
        log_f: As for ``stabilizer_path``.
        m: As for ``stabilizer_path``.
        grad: Gradient of ``F_t + M_t`` (N, G, L), changed.

    Returns:
        Gradients of ``log_i``, of ``log_f`` and of ``m``.
    """
    _, relative, _, border = stabilizer_path(log_i, log_f, m)
    highest, position = torch.cummax(relative, -1)
    is_carried = border[:-1].unsqueeze(-1) >= highest
    from_position = torch.zeros_like(grad)
    onward = torch.zeros_like(m)
    for n in range(len(grad) - 1, -1, -1):
        grad[n, :, -1] += onward  # a border is the last position of the chunk before it
        onward = (grad[n] * is_carried[n]).sum(-1)
        from_position[n].scatter_add_(-1, position[n], grad[n] * ~is_carried[n])
    grad_total = grad - from_position
    return from_position, grad_total.flip(-1).cumsum(-1).flip(-1), onward


def chunk_factors(
    log_i: Tensor, log_f: Tensor, m: Tensor, scale: float, dtype: torch.dtype
) -> ChunkFactors:
    """All factors of a sequence cut into chunks.

    Args:
        log_i: Log input gates (N, G, L), float64.
        log_f: Log forget gates (N, G, L), float64.
        m: Stabiliser of the state before the first chunk (G,), float64.
        scale: What keys are multiplied by, 1 / √DHQK.
        dtype: Dtype of calculation, float32 or float64.
    """
    total, relative, peak, border = stabilizer_path(log_i, log_f, m)
    peak = finite(peak.to(dtype))
    border = border.to(dtype)
    before, after = border[:-1].double(), finite(border[1:]).double()
    relative = relative + math.log(scale)
    grown = total[..., -1] - after
    return ChunkFactors(
        relative=relative,
        peak=peak,
        floor=denominator_floor((total + peak).to(dtype)),
        read=_weight(before.unsqueeze(-1) - peak, dtype),
        write=_weight(relative + grown.unsqueeze(-1), dtype),
        keep=_weight(before + grown, dtype),
        last=border[-1],
    )


def causal_weights(relative: Tensor, peak: Tensor) -> Tensor:
    """``exp(relative_s - peak_t)`` for s ≤ t and 0 elsewhere.

    Args:
        relative: (..., L), float64.
        peak: (..., L), float32 or float64; the result has its dtype.

    Returns:
        (..., L, L), row t, column s.
    """
    high = relative.to(peak.dtype)
    exponent = high.unsqueeze(-2) - peak.unsqueeze(-1)
    if peak.dtype != torch.float64:
        # What rounding took from `relative`: at gates of ±500 it is more than the tolerance.
        low = torch.where(high == float("-inf"), 0.0, relative - high).to(peak.dtype)
        exponent += low.unsqueeze(-2)
    return F.threshold_(exponent, SMALLEST_EXPONENT[peak.dtype], -math.inf).exp_().tril_()


def _weight(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    return F.threshold(exponent, SMALLEST_EXPONENT[dtype], -math.inf).exp().to(dtype)


def denominator_floor(m: Tensor) -> Tensor:
    """``exp(-m)``, held between the square of the dtype's resolution and its largest number.

    Below the lower bound a denominator is rounding noise; beyond the upper one the quotient is 0
    whatever the numerator. Without the bounds an infinity or a zero would reach the gradients.

    >>> denominator_floor(torch.tensor([0.0, 500.0, -500.0])).isfinite().all()
    tensor(True)
    """
    info = torch.finfo(m.dtype)
    return (-m).clamp(2 * math.log(info.eps), math.log(info.max) - 1).exp()


def finite(m: Tensor) -> Tensor:
    """Replace the -inf of an empty memory by 0, where the factor it scales is 0 anyhow."""
    return torch.where(m == float("-inf"), 0.0, m)
