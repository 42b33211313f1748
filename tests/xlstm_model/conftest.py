"""What several tests of the library build."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from xlstm_model import XLSTMStack


@pytest.fixture
def make_stack() -> Callable[..., XLSTMStack]:
    """Builds a float64 stack whose every parameter is away from its special initial value."""

    def build(pattern: str = "ms", dim: int = 8, **settings) -> XLSTMStack:
        torch.manual_seed(0)
        stack = XLSTMStack(dim, pattern, **{"num_heads": 2} | settings).double()
        with torch.no_grad():
            for parameter in stack.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return stack

    return build
