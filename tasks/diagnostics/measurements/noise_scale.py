"""How many windows a gradient needs to be more signal than noise (McCandlish et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

MICRO_BATCHES = 16
ROWS = 4
RESAMPLES = 500


@dataclass(frozen=True)
class NoiseScale:
    """B_simple = tr(S) / |G|^2: variance of a window's gradient over the squared mean gradient."""

    windows: float = quantity("windows per batch at which noise and signal are equal")
    low: float = quantity("windows, 2.5 % quantile over resampled micro-batches")
    high: float = quantity("windows, 97.5 % quantile")
    micro_batches: int = quantity("micro-batches")


def measure(probe: Probe) -> NoiseScale:
    """Differentiate the loss on equal micro-batches, at trained weights.

    New weights say little: their gradients agree on what every window lacks.
    """
    model = probe.model(trained=True)
    rows = _micro_batches(probe)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = []
    for batch in rows:
        torch.manual_seed(probe.seed)
        loss = program_loss(probe, model, batch)
        if not loss.requires_grad or not parameters:
            raise NotMeasuredError("a loss with a gradient")
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        pieces = [
            torch.zeros(p.numel()) if g is None else g.to_dense().flatten()
            for p, g in zip(parameters, found, strict=True)
        ]
        gradients.append(torch.cat(pieces).float())
    stacked = torch.stack(gradients)
    products = (stacked @ stacked.T).double().numpy()
    if not np.isfinite(products).all():
        raise NotMeasuredError("finite gradients; see question weights_move_and_stay_finite")
    size = len(rows[0].item_ids)
    rng = np.random.default_rng(probe.seed)
    drawn = [
        noise_scale(products, rng.integers(0, len(rows), len(rows)), size) for _ in range(RESAMPLES)
    ]
    return NoiseScale(
        windows=noise_scale(products, np.arange(len(rows)), size),
        low=float(np.quantile(drawn, 0.025, method="lower")),
        high=float(np.quantile(drawn, 0.975, method="higher")),
        micro_batches=len(rows),
    )


def noise_scale(products: np.ndarray, chosen: np.ndarray, size: int) -> float:
    """Return B_simple from inner products of micro-batch gradients.

    Products of different micro-batches estimate |G|^2 without bias, their own squares exceed it by
    tr(S) / size.

    Args:
        products: (M, M) inner products.
        chosen: Micro-batches to use; pairs of one with itself count as its square alone.
        size: Windows per micro-batch.

    Returns:
        Windows; infinite where no common gradient is left.

    >>> noise_scale(np.array([[3.0, 1.0], [1.0, 3.0]]), np.array([0, 1]), 4)
    8.0
    """
    part = products[np.ix_(chosen, chosen)]
    other = chosen[:, None] != chosen[None, :]
    if not other.any():
        return math.inf
    signal = float(part[other].mean())
    noise = (float(np.diag(part).mean()) - signal) * size
    return max(noise, 0.0) / signal if signal > 0 else math.inf


def _micro_batches(probe: Probe) -> list[Batch]:
    """Return equal parts of real batches, with seeds of their own."""
    parts: list[Batch] = []
    for batch in probe.all_batches:
        for start in range(0, len(batch.item_ids) - ROWS + 1, ROWS):
            part = batch.rows(slice(start, start + ROWS))
            if part.num_targets == 0:
                continue
            parts.append(part._replace(seed=batch.seed + len(parts)))
            if len(parts) == MICRO_BATCHES:
                return parts
    if len(parts) < MICRO_BATCHES // 2:
        raise NotMeasuredError(
            f"{MICRO_BATCHES // 2} times {ROWS} training windows; there are {len(parts)} times"
        )
    return parts
