"""The training loss and its gradient beside an independent float64 form of the declared loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements import loss_forms
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

MAX_SCORES = 2**24
"""Scores of a batch held at a time, 128 MiB in float64."""


@dataclass(frozen=True)
class LossOracle:
    """The program's loss and the declared one, on the same weights and batches."""

    program: float = quantity("nats")
    declared: float = quantity("nats")
    relative_difference: float = quantity("share of the declared loss")
    gradient_cosine: float = quantity("cosine between both gradients")
    duplicated_difference: float | None = quantity("share of the declared loss")
    whole_difference: float = quantity("share of the declared loss, on a batch as training has it")
    num_targets: int = quantity("targets")
    padded_share: float = quantity("share of positions that are padding")


def measure(probe: Probe) -> LossOracle:
    """Compare value and gradient in eval mode on a batch that holds padding where there is any."""
    batch = ragged_batch(probe)
    model = probe.model()
    torch.manual_seed(probe.seed)
    program = program_loss(probe, model, batch)
    program_gradient = _gradient(program, model)
    model = probe.model()  # another one: nothing of the first call may be left
    torch.manual_seed(probe.seed)
    oracle = oracle_loss(probe, model, batch)
    oracle_gradient = _gradient(oracle, model)
    value, expected = float(program.detach()), float(oracle.detach())
    scale = max(abs(expected), 1e-12)
    return LossOracle(
        program=value,
        declared=expected,
        relative_difference=abs(value - expected) / scale,
        gradient_cosine=_cosine(program_gradient, oracle_gradient),
        duplicated_difference=_duplicated(probe, batch, value, scale),
        whole_difference=_whole(probe),
        num_targets=batch.num_targets,
        padded_share=float((~batch.mask).double().mean()),
    )


def _whole(probe: Probe) -> float:
    """Relative difference of the loss on the first batch of the epoch, all rows that fit.

    With shaken weights: under new ones all targets have about the same loss, whichever count.
    """
    batch = probe.all_batches[0]
    per_row = batch.item_ids.shape[1] * (probe.data.num_items + 1)
    batch = batch.rows(slice(0, max(8, MAX_SCORES // per_row)))
    values = []
    for loss in (program_loss, oracle_loss):
        model = probe.model()
        shake_weights(model, probe.seed)
        torch.manual_seed(probe.seed)
        with torch.no_grad():
            values.append(float(loss(probe, model, batch)))
    value, expected = values
    return abs(value - expected) / max(abs(expected), 1e-12)


def ragged_batch(probe: Probe, rows: int = 8) -> Batch:
    """Return the longest and the shortest rows of the first batch, so that padding is present."""
    first = probe.all_batches[0]
    order = first.mask.sum(dim=1).argsort(stable=True)
    half = max(1, rows // 2)
    chosen = torch.cat([order[:half], order[half:][-half:]])
    return first.rows(chosen)


def program_loss(probe: Probe, model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss the program differentiates, checked to be a scalar with a gradient."""
    loss = probe.ask("loss", model, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise SubjectError("loss", f"returned {found}; expected a scalar tensor")
    return loss.reshape(())


def oracle_loss(probe: Probe, model: nn.Module, batch: Batch) -> Tensor:
    """Return the declared loss of the program's logits, float64, differentiable."""
    draws = None
    if probe.subject.declared.loss not in (*loss_forms.FULL_LOSSES, "other"):
        draws = probe.ask("sample_negatives", probe.prepared, batch)
    logits = probe.logits(model, batch)[..., 1:].double()
    rows, columns = batch.asked.nonzero(as_tuple=True)
    if len(rows) == 0:
        raise NotMeasuredError("a batch with at least one target")
    targets = batch.targets[rows, columns]
    return loss_forms.declared_loss(
        logits[rows, columns], targets, rows, probe.subject.declared, draws
    )


def _gradient(loss: Tensor, model: nn.Module) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not loss.requires_grad or not parameters:
        return torch.zeros(1, dtype=torch.float64)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    pieces = [
        torch.zeros(p.numel(), dtype=torch.float64) if g is None else g.detach().double().flatten()
        for p, g in zip(parameters, grads, strict=True)
    ]
    return torch.cat(pieces)


def _cosine(a: Tensor, b: Tensor) -> float:
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0


def _duplicated(probe: Probe, batch: Batch, once: float, scale: float) -> float | None:
    """Relative change of the loss when every row stands in the batch twice; 0 for a mean."""
    if probe.subject.declared.loss not in loss_forms.FULL_LOSSES:
        return None  # a larger batch draws other negatives
    rows = len(batch.item_ids)
    twice = batch.rows(torch.arange(rows).repeat(2))
    torch.manual_seed(probe.seed)
    return abs(float(program_loss(probe, probe.model(), twice).detach()) - once) / scale
