"""What really happens inside the program's optimiser steps, seen from the optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding, rows_by_id
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch, ModelOnBatch


@dataclass
class Steps:
    """One record per call of `optimizer.step`, and the modes modules ran in.

    Attributes:
        gradients: Name -> gradient as the optimiser saw it, per call.
        training_modes: Mode of every dropout-like module, at each of its forward passes.
    """

    gradients: list[dict[str, Tensor]]
    training_modes: list[bool]


@dataclass(frozen=True)
class StepTrace:
    """Facts about three optimiser steps of the program."""

    optimizer_calls: int = quantity("calls of optimizer.step in three steps")
    missing: int = quantity("trainable parameters the optimiser does not have")
    foreign: int = quantity("parameters of the optimiser that are not the model's")
    unmoved: int = quantity("parameters with a gradient that did not move")
    moved_matrices: int = quantity("weight matrices that moved")
    update_ratio: float = quantity("norm of one step's change over the norm of the weights")
    stale_gradient: float | None = quantity("share of the second gradient left from the first step")
    train_mode: bool | None = quantity("modules run in training mode within a step")
    seen_rows_unmoved: int | None = quantity("embedding rows of seen items that did not move")
    embedding_has_gradient: bool | None = quantity("the item embedding gets a gradient")
    padding_row_moved: bool | None = quantity("the padding row moved")
    non_finite: int = quantity("parameters that are not finite after three steps")
    first_missing: str = ""
    first_unmoved: str = ""


def measure(probe: Probe) -> StepTrace:
    """Run three steps on new weights and compare before and after."""
    batches = _three(probe)
    # In float64 a step too small for float32 still shows.
    model = probe.model().to(probe.precision)
    optimizer = probe.ask("make_optimizer", model)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise NotMeasuredError("a parameter that takes a gradient")
    listed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    every = {id(p) for p in model.parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    steps = run_steps(probe, model, optimizer, batches)
    after = dict(model.named_parameters())
    moved = {n: not torch.equal(before[n], p.detach()) for n, p in after.items()}
    had_gradient = {n for seen in steps.gradients for n, g in seen.items() if bool((g != 0).any())}
    unmoved = [n for n, p in named if n in had_gradient and not moved[n]]
    missing = [n for n, p in named if id(p) not in listed]
    table, rows_unmoved, padding_moved = _embedding_rows(probe, model, before, batches)
    return StepTrace(
        optimizer_calls=len(steps.gradients),
        missing=len(missing),
        foreign=len(listed - every),
        unmoved=len(unmoved),
        moved_matrices=sum(moved[n] for n, p in named if p.ndim >= 2),
        update_ratio=_ratio(before, after) / max(len(steps.gradients), 1),
        stale_gradient=_stale(probe, batches),
        train_mode=all(steps.training_modes) if steps.training_modes else None,
        seen_rows_unmoved=rows_unmoved,
        embedding_has_gradient=table in had_gradient if table else None,
        padding_row_moved=padding_moved,
        non_finite=sum(not bool(torch.isfinite(p).all()) for n, p in named if n in before),
        first_missing=missing[0] if missing else "",
        first_unmoved=unmoved[0] if unmoved else "",
    )


def run_steps(
    probe: Probe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    *,
    loss: ModelOnBatch | None = None,
) -> Steps:
    """Make the program's own steps while watching gradients and modes.

    Every step finds the model as an evaluation leaves it: in eval mode.

    Args:
        probe: Of the program.
        model: Trained in place.
        optimizer: With the model's parameters.
        batches: One per step.
        loss: Handed to the step instead of the program's own.
    """
    steps = Steps([], [])
    names = {id(p): n for n, p in model.named_parameters()}

    def before_update(opt: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        steps.gradients.append(
            {
                names[id(p)]: p.grad.detach().to_dense().clone()
                for group in opt.param_groups
                for p in group["params"]
                if p.grad is not None and id(p) in names
            }
        )

    def note_mode(module: nn.Module, inputs: tuple) -> None:
        steps.training_modes.append(module.training)

    loss = loss or probe.subject.loss
    if loss is None:
        raise NotOfferedError("loss")
    noisy = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)] or [model]
    handles = [optimizer.register_step_pre_hook(before_update)]
    handles += [module.register_forward_pre_hook(note_mode) for module in noisy]
    try:
        for batch in batches:
            model.eval()
            torch.manual_seed(probe.seed)
            probe.ask("train_step", loss, model, optimizer, batch)
    finally:
        for handle in handles:
            handle.remove()
    return steps


def _three(probe: Probe) -> list[Batch]:
    batches = [batch.rows(slice(0, 16)) for batch in probe.all_batches[:3]]
    return (batches * 3)[:3]


def _ratio(before: dict[str, Tensor], after: dict[str, nn.Parameter]) -> float:
    change = total = 0.0
    for name, old in before.items():
        new = after[name].detach()
        finite = torch.isfinite(old) & torch.isfinite(new)
        change += float((new - old)[finite].double().square().sum())
        total += float(old[finite].double().square().sum())
    return (change / total) ** 0.5 if total > 0 else 0.0


def _stale(probe: Probe, batches: list[Batch]) -> float | None:
    """How much of the gradient of batch B changes when batch A was stepped on before.

    The learning rate is 0 and random states are equal, so the weights are: any difference was
    left over from A.
    """

    def gradients_of_last(chosen: list[Batch]) -> dict[str, Tensor] | None:
        model = probe.model()
        optimizer = probe.ask("make_optimizer", model)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        try:
            seen = run_steps(probe, model, optimizer, chosen).gradients
        except SubjectError:
            return None
        return seen[-1] if len(seen) == len(chosen) else None

    alone, second = gradients_of_last(batches[1:2]), gradients_of_last(batches[:2])
    if not alone or second is None:
        return None
    difference = sum(float((second[n] - g).double().square().sum()) for n, g in alone.items())
    total = sum(float(g.double().square().sum()) for g in alone.values())
    return (difference / total) ** 0.5 if total > 0 else None


def _embedding_rows(
    probe: Probe, model: nn.Module, before: dict[str, Tensor], batches: list[Batch]
) -> tuple[str, int | None, bool | None]:
    """Name the item embedding, count rows of input items that did not move, look at row 0."""
    table = item_embedding(model, probe.data.num_items)
    if table is None:
        return "", None, None
    name = next(n for n, p in model.named_parameters() if p is table.weight)
    changed = rows_by_id(probe, (before[name] != table.weight.detach()).any(dim=1))
    seen = torch.cat([batch.item_ids[batch.asked].flatten() for batch in batches]).unique()
    seen = seen[(seen > 0) & (seen < len(changed))]
    return name, int((~changed[seen]).sum()), bool(changed[0])
