"""The residual blocks of a model, found by their place and shape rather than by their class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.subject import Batch


class Flow:
    """Inputs and outputs of the blocks of one stack during one forward pass.

    Attributes:
        inputs: One (B, S, D) tensor per block.
        outputs: One per block.
        after: What the module that follows the last block read, or the stack's own result.
    """

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.after: Tensor | None = None

    def stream(self, block: int) -> Tensor | None:
        """Return what the residual stream holds after a block."""
        if block + 1 < len(self.inputs):
            return self.inputs[block + 1]
        return self.after


def find_stack(probe: Probe, batch: Batch) -> tuple[str, list[str]]:
    """Return the name of the stack and of its blocks, in order.

    A stack is a module holding an `nn.ModuleList` or `nn.Sequential` whose members have parts of
    their own and map (B, S, D) to (B, S, D), each once per forward pass. The outermost counts, and
    of several the longest.

    Raises:
        NotApplicableError: The model has none.
    """
    model = probe.model()
    shapes = _shapes(probe, model, batch)
    best: tuple[str, list[str]] | None = None
    best_rank = (0, 0)
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        members = [f"{name}.{child}" for child, _ in module.named_children()]
        compound = all(any(True for _ in child.children()) for child in module.children())
        if not members or not compound:
            continue
        if not all(shapes.get(member, (False, 0))[0] for member in members):
            continue
        rank = (name.count("."), -len(members))
        if best is None or rank < best_rank:
            parent = name if isinstance(module, nn.Sequential) else name.rpartition(".")[0]
            best, best_rank = (parent, members), rank
    if best is None:
        raise NotApplicableError("the model has no list of blocks from (B, S, D) to (B, S, D)")
    return best


def _shapes(probe: Probe, model: nn.Module, batch: Batch) -> dict[str, tuple[bool, int]]:
    """Return for every module whether it kept a (B, S, D) shape, and how often it ran."""
    seen: dict[str, tuple[bool, int]] = {}
    expected = tuple(batch.item_ids.shape)

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            given, result = first_tensor(inputs), first_tensor(output)
            kept = (
                given is not None
                and result is not None
                and given.ndim == 3
                and given.shape == result.shape
                and tuple(given.shape[:2]) == expected
            )
            calls = seen.get(name, (True, 0))
            seen[name] = (kept and calls[0] and calls[1] == 0, calls[1] + 1)

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in model.named_modules() if name]
    try:
        with torch.no_grad():
            probe.logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextmanager
def watching(model: nn.Module, stack: str, blocks: list[str]) -> Iterator[Flow]:
    """Record the flow through a stack's blocks during the forward passes inside."""
    flow = Flow()
    modules = dict(model.named_modules())
    handles = []

    def passes(module: nn.Module, inputs: tuple, output: Any) -> None:
        flow.inputs.append(first_tensor(inputs).detach().double())
        flow.outputs.append(first_tensor(output).detach().double())

    handles += [modules[name].register_forward_hook(passes) for name in blocks]
    inside = set(blocks)

    def follows(module: nn.Module, inputs: tuple) -> None:
        given = first_tensor(inputs)
        complete = len(flow.outputs) == len(blocks) and flow.after is None
        if complete and given is not None and given.shape == flow.outputs[-1].shape:
            flow.after = given.detach().double()

    def ends(module: nn.Module, inputs: tuple, output: Any) -> None:
        result = first_tensor(output)
        if flow.after is None and result is not None:
            flow.after = result.detach().double()

    for name, module in modules.items():
        child = name.startswith(f"{stack}.") if stack else bool(name)
        if child and not any(name == b or name.startswith(f"{b}.") for b in inside):
            handles.append(module.register_forward_pre_hook(follows))
    handles.append(modules[stack].register_forward_hook(ends))
    try:
        yield flow
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor of a nested tuple, list or dict, or None."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            found = first_tensor(item)
            if found is not None:
                return found
    return None
