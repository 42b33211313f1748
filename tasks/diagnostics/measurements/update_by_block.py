"""How far one optimiser step moves each block, relative to the block's weights."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.step_trace import run_steps
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

FAINT = 10.0
"""Gradients below this many epsilons make a step that depends on epsilon."""


@dataclass(frozen=True)
class UpdateByBlock:
    """Norm of a step's change over the norm of the weights, block by block."""

    largest: float = quantity("share of a block's weights")
    smallest: float | None = quantity("share of a block's weights, None = no step tells")
    num_blocks: int = quantity("blocks")
    largest_block: str = ""
    smallest_block: str = ""


def measure(probe: Probe) -> UpdateByBlock:
    """Make one step on new weights and compare before and after.

    Embeddings are left out: they are small at the start and follow few events each. So is what
    gets no gradient: whether it should is another question. Nor does a step say how far a block
    will get whose gradient is still below the epsilon of an adaptive optimiser: it grows with the
    gradient, whatever the rate is.
    """
    model = probe.model()
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    optimizer = probe.ask("make_optimizer", model)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    steps = run_steps(probe, model, optimizer, [probe.all_batches[0].rows(slice(0, 16))])
    change: dict[str, float] = {}
    size: dict[str, float] = {}
    told: set[str] = set()
    for name, parameter in model.named_parameters():
        reached = any(bool((seen[name] != 0).any()) for seen in steps.gradients if name in seen)
        if name not in before or id(parameter) in tables or not reached:
            continue
        block = block_of(name)
        faintest = FAINT * _epsilon(optimizer, parameter)
        if any(_size(seen[name]) >= faintest for seen in steps.gradients if name in seen):
            told.add(block)
        old, new = before[name].double(), parameter.detach().double()
        finite = torch.isfinite(old) & torch.isfinite(new)
        change[block] = change.get(block, 0.0) + float((new - old)[finite].square().sum())
        size[block] = size.get(block, 0.0) + float(old[finite].square().sum())
    ratios = {b: (change[b] / size[b]) ** 0.5 for b in change if size[b] > 0}
    if not ratios:
        raise NotMeasuredError("weights besides the item embedding that get a gradient")
    largest = max(ratios, key=ratios.get)
    smallest = min([b for b in ratios if b in told], key=ratios.get, default="")
    return UpdateByBlock(
        largest=ratios[largest],
        smallest=ratios.get(smallest),
        num_blocks=len(ratios),
        largest_block=largest,
        smallest_block=smallest,
    )


def _epsilon(optimizer: torch.optim.Optimizer, parameter: Tensor) -> float:
    """Epsilon an adaptive optimiser adds to the gradient's size; 0 for others."""
    for group in optimizer.param_groups:
        if any(one is parameter for one in group["params"]):
            return float(group.get("eps", 0.0))
    return 0.0


def _size(gradient: Tensor) -> float:
    return float(gradient.double().square().mean().sqrt())


def block_of(name: str) -> str:
    """Return the numbered part a parameter belongs to, or the part that owns it.

    >>> block_of("sequence_model.blocks.2.norm.weight"), block_of("head.weight")
    ('sequence_model.blocks.2', 'head')
    """
    numbered = re.match(r"(.*?\.\d+)\.", name)
    return numbered[1] if numbered else name.rpartition(".")[0] or name
