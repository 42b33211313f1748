"""Look, never touch: whatever a measurement does to global state or to a model is undone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Restore random states, gradient switch and the given models on leaving, errors included.

    Of a model: parameters, buffers, gradients, requires_grad and the train/eval mode of every
    submodule. Cost: one copy of its weights.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    grad_enabled, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    kept = [_ModelState(model) for model in models]
    try:
        yield
    finally:
        for state in kept:
            state.restore()
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_grad_enabled(grad_enabled)
        torch.set_default_dtype(dtype)


class _ModelState:
    """Everything of a module that a forward, backward or optimiser step can change."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        tensors = [*model.parameters(), *model.buffers()]
        self.tensors = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self.grads = [
            (p, p.requires_grad, None if p.grad is None else p.grad.detach().clone())
            for p in model.parameters()
        ]
        self.modes = [(module, module.training) for module in model.modules()]

    def restore(self) -> None:
        with torch.no_grad():
            for tensor, value in self.tensors:
                tensor.copy_(value)
        for parameter, requires_grad, grad in self.grads:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for module, training in self.modes:
            module.training = training
