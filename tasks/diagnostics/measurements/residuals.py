"""Does the residual stream pass every block unchanged but for what the block adds?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.measurements.blocks import find_stack, watching
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class Residuals:
    """What a block without weights does to the stream, one block at a time."""

    largest_error: float = quantity("share of the stream's norm")
    blocks_passing: int = quantity("blocks that are the identity without weights")
    num_blocks: int = quantity("blocks")
    worst_block: str = ""


def measure(probe: Probe) -> Residuals:
    """Zero one block's parameters: its branch is then 0, so the stream must come out as it went in.

    One block at a time: with all of them zeroed, a stack that adds its first input to every block
    looks right.
    """
    batch = probe.batch(rows=4, positions=8)
    stack, blocks = find_stack(probe, batch)
    errors = []
    for number, name in enumerate(blocks):
        model = probe.model()
        shake_weights(model, probe.seed)
        with torch.no_grad():
            for parameter in dict(model.named_modules())[name].parameters():
                parameter.zero_()
        with watching(model, stack, blocks) as flow, torch.no_grad():
            probe.logits(model, batch)
        before, after = flow.inputs[number], flow.stream(number)
        if after is None:
            raise NotMeasuredError(f"what follows block {name}")
        before, after = before[batch.mask], after[batch.mask]
        if not bool(torch.isfinite(after).all()):
            raise NotMeasuredError(f"a finite stream behind block {name} without its weights")
        errors.append(float((after - before).norm() / before.norm().clamp(min=1e-12)))
    worst = max(range(len(errors)), key=errors.__getitem__)
    return Residuals(
        largest_error=errors[worst],
        blocks_passing=sum(error < 1e-4 for error in errors),
        num_blocks=len(blocks),
        worst_block=blocks[worst],
    )
