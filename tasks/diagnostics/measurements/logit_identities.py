"""Identities of the declared loss as a function of logits, tried on the program's own loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.diagnostics.measurements import loss_forms
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

PERFECT = 60.0
"""Logit of the right item that makes its probability 1 to float precision."""


MOST_TARGETS = 1024
"""Items tried as targets; of larger catalogues, as many over the whole range of ids."""


@dataclass(frozen=True)
class LogitIdentities:
    """Breaches of the identities; None where the declared loss has no such identity."""

    shift: float | None = quantity("change of the loss in nats when all logits rise by 3")
    gradient: float = quantity("relative error of the gradient by the logits")
    perfect: float = quantity("loss above its floor at perfect logits, in nats")
    at_zero: float = quantity("loss at equal logits, difference from its known value in nats")
    unasked: float = quantity("share of the gradient at positions without a target")
    by_item: float | None = quantity("relative error of one item's gradient when it is the target")
    loss_name: str = quantity("declared loss")


def measure(probe: Probe) -> LogitIdentities:
    """Feed made-up logits of a real batch to the program's loss, and differentiate it."""
    declared = probe.subject.declared
    if declared.loss == "other":
        raise NotApplicableError("the loss is the user's own, with identities unknown here")
    batch = _gapped(probe.batch(rows=4, positions=6))
    draws = None
    if declared.loss not in loss_forms.FULL_LOSSES:
        draws = probe.ask("sample_negatives", probe.prepared, batch)
    generator = torch.Generator().manual_seed(probe.seed)
    shape = (*batch.item_ids.shape, probe.data.num_items + 1)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).float()
    logits[..., 0] = _padding_logit(probe, batch)

    def form(given: Tensor) -> Tensor:
        rows, columns = batch.asked.nonzero(as_tuple=True)
        return loss_forms.declared_loss(
            given[rows, columns, 1:], batch.targets[rows, columns], rows, declared, draws
        )

    def program(given: Tensor, batch: Batch = batch) -> Tensor:
        loss = probe.ask("criterion", given, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise SubjectError("criterion", f"returned {type(loss).__name__}; expected a scalar")
        return loss.reshape(())

    value, gradient = _differentiate(program, logits)
    _, expected = _differentiate(form, logits)
    equal = torch.where(torch.isfinite(logits), torch.zeros_like(logits), logits)
    right = equal.clone() - PERFECT / 2
    right.scatter_(2, batch.targets[..., None], PERFECT / 2)
    right[..., 0] = logits[..., 0]
    shift = None
    if declared.loss in ("cross_entropy", "sampled_softmax", "bpr"):
        shift = abs(float(program(logits + 3.0)) - value)
    return LogitIdentities(
        shift=shift,
        gradient=float((gradient - expected).norm() / expected.norm().clamp(min=1e-12)),
        perfect=abs(float(program(right)) - float(form(right))),
        at_zero=abs(float(program(equal)) - float(form(equal))),
        unasked=_outside(gradient, batch),
        by_item=_by_item(probe, program) if draws is None else None,
        loss_name=declared.loss,
    )


def _by_item(probe: Probe, program: Callable[[Tensor, Batch], Tensor]) -> float:
    """Largest error of the gradient at a position, with every item as the target of one.

    One item that is weighted otherwise, or left out, moves the loss of a batch by next to nothing.
    """
    num_items = probe.data.num_items
    items = torch.linspace(1, num_items, min(num_items, MOST_TARGETS)).round().long().unique()
    model = probe.batch(rows=1)
    width = min(probe.subject.declared.max_seq_len, model.item_ids.shape[1])
    rows = -(-len(items) // width)
    # Once around fills the rows, and a catalogue of fewer items than a row holds more often.
    targets = items.repeat(-(-rows * width // len(items)))[: rows * width].view(rows, width)
    batch = model.rows(torch.zeros(rows, dtype=torch.int64)).columns(slice(0, width))
    batch = batch._replace(
        item_ids=targets.flip(1), targets=targets, mask=torch.ones_like(targets, dtype=torch.bool)
    )
    generator = torch.Generator().manual_seed(probe.seed)
    logits = torch.randn(rows, width, num_items + 1, generator=generator)
    logits[..., 0] = _padding_logit(probe, model)

    def form(given: Tensor) -> Tensor:
        own = torch.arange(rows).repeat_interleave(width)
        flat = given.flatten(0, 1)[:, 1:]
        return loss_forms.declared_loss(flat, targets.flatten(), own, probe.subject.declared, None)

    _, found = _differentiate(lambda given: program(given, batch), logits)
    _, expected = _differentiate(form, logits)
    scale = expected.flatten(0, 1).norm(dim=1).clamp(min=1e-12)
    return float(((found - expected).flatten(0, 1).norm(dim=1) / scale).max())


def _gapped(batch: Batch) -> Batch:
    """Return the batch with the second half of every other row padded away."""
    width = batch.item_ids.shape[1]
    if width < 2:
        raise NotMeasuredError("a training window of at least two events")
    mask = batch.mask.clone()
    mask[1::2, width // 2 :] = False
    return batch._replace(item_ids=batch.item_ids * mask, targets=batch.targets * mask, mask=mask)


def _padding_logit(probe: Probe, batch: Batch) -> float:
    """The padding score that the program's model gives: -inf where it rules padding out."""
    with torch.no_grad():
        column = probe.logits(probe.model(), batch)[..., 0]
    return -math.inf if bool(torch.isneginf(column).all()) else 0.0


def _differentiate(function, logits: Tensor) -> tuple[float, Tensor]:
    """Return the value and the gradient by real items' logits, float64."""
    given = logits.clone().requires_grad_()
    loss = function(given)
    if not loss.requires_grad:
        return float(loss), torch.zeros_like(given[..., 1:]).double()
    (gradient,) = torch.autograd.grad(loss, [given])
    return float(loss.detach()), gradient[..., 1:].double()


def _outside(gradient: Tensor, batch: Batch) -> float:
    total = float(gradient.norm())
    return float(gradient[~batch.asked].norm()) / total if total > 0 else 0.0
