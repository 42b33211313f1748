"""Rungs of the strip-down ladder, put into a built model."""

from __future__ import annotations

import torch
from torch import nn

from xlstm_model import ABLATION_RUNGS, XLSTMStack, ablation_settings

RUNGS: tuple[str, ...] = tuple(ABLATION_RUNGS)
"""From the full model down to a plain recurrence."""


def find_stack(model: nn.Module) -> tuple[str, XLSTMStack] | None:
    """Return name and module of the first xLSTM stack inside a model, or None."""
    for name, module in model.named_modules():
        if isinstance(module, XLSTMStack):
            return name, module
    return None


def stack_settings(stack: XLSTMStack) -> dict:
    """Return the arguments a stack was built with."""
    return {name: value for name, value in stack.settings.items() if name != "type"}


def strip(model: nn.Module, rung: str, seed: int) -> nn.Module:
    """Put the stack of a rung in place of a model's own, with new weights, and return the model.

    Args:
        model: Holds an `XLSTMStack`; changed in place.
        rung: One of `RUNGS`.
        seed: Seed of the new weights.

    Raises:
        ValueError: The model holds no such stack, or there is no such rung.
    """
    found = find_stack(model)
    if found is None:
        raise ValueError(
            f"{type(model).__name__} holds no XLSTMStack; expected one to strip down. "
            "Ask for a rung of xLSTM models only."
        )
    name, stack = found
    settings = ablation_settings(rung, stack_settings(stack))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stripped = XLSTMStack(**settings)
    if not name:
        return stripped
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, stripped)
    return model
