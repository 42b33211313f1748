"""Are scores, loss and gradients finite, also with weights ten times as large?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.loss_oracle import program_loss
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import SubjectError
from tasks.diagnostics.question import quantity

FACTOR = 3.0
"""Growth of every weight matrix. The published mLSTM bound exp(-m), written out in float32, stays
finite at 3 and fails at 5 where gates start at -10 (measured)."""

PASSES = 4
"""Training-mode passes, so that rare random failures have a chance to show."""


@dataclass(frozen=True)
class FiniteStress:
    """Values that are NaN or infinite."""

    scores: int = quantity("scores of real positions that are not finite, usual weights")
    gradients: int = quantity("gradient entries that are not finite, usual weights")
    stressed_scores: int = quantity("scores that are not finite, 3-fold weights")
    stressed_gradients: int = quantity("gradient entries that are not finite, 3-fold weights")
    where: str = ""


def measure(probe: Probe) -> FiniteStress:
    """Count values that are not finite in train-mode passes under usual and larger weights."""
    usual = [_count(probe, 1.0, probe.seed + n) for n in range(PASSES)]
    stressed = _count(probe, FACTOR, probe.seed)
    names = [name for _, _, name in (*usual, stressed) if name]
    return FiniteStress(
        scores=sum(scores for scores, _, _ in usual),
        gradients=sum(gradients for _, gradients, _ in usual),
        stressed_scores=stressed[0],
        stressed_gradients=stressed[1],
        where=names[0] if names else "",
    )


def _count(probe: Probe, factor: float, seed: int) -> tuple[int, int, str]:
    batch = probe.all_batches[seed % len(probe.all_batches)].rows(slice(0, 16))
    model = probe.model().train()
    if factor != 1.0:
        shake_weights(model, probe.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                # Gate biases start at -10: ten times that is no weight any training ends at.
                parameter.mul_(factor if parameter.ndim >= 2 else 1.0)
    torch.manual_seed(seed)
    with torch.no_grad():
        scores = probe.logits(model, batch)[..., 1:][batch.mask]
    bad_scores = int((~torch.isfinite(scores)).sum())
    torch.manual_seed(seed)
    if probe.subject.loss is None:
        return bad_scores, 0, "scores" if bad_scores else ""
    loss = program_loss(probe, model, batch)
    if loss.requires_grad:
        try:
            loss.backward()
        except RuntimeError as error:
            raise SubjectError.of("loss", error) from error
    bad, where = int(not bool(torch.isfinite(loss))), "loss"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            count = int((~torch.isfinite(parameter.grad.to_dense())).sum())
            where = name if count and not bad else where
            bad += count
    return bad_scores, bad, where if bad or bad_scores else ""
