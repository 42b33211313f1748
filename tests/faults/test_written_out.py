"""Cells that faults are made of are right until they are made wrong."""

from __future__ import annotations

import pytest
import torch

from tasks.faults.planting import swap_class
from tasks.faults.written_out import WrittenOutMLSTM, WrittenOutSLSTM
from xlstm_model import XLSTMStack
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence


def _stacks(pattern: str) -> tuple[XLSTMStack, XLSTMStack]:
    torch.manual_seed(0)
    right = XLSTMStack(8, pattern, num_heads=2).double()
    for parameter in right.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    written = XLSTMStack(8, pattern, num_heads=2).double()
    written.load_state_dict(right.state_dict())
    for module in list(written.modules()):
        for kind, own in ((SLSTMRecurrence, WrittenOutSLSTM), (MLSTMRecurrence, WrittenOutMLSTM)):
            if isinstance(module, kind):
                swap_class(module, own)
    return right, written


@pytest.mark.parametrize("pattern", ["s", "m", "ms"])
def test_the_written_out_cells_compute_what_the_models_do(pattern: str) -> None:
    right, written = _stacks(pattern)
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    with torch.no_grad():
        expected, _ = right(x, mask=mask)
        found, _ = written(x, mask=mask)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pattern", ["s", "m"])
def test_steps_of_the_written_out_cells_are_those_of_the_model(pattern: str) -> None:
    right, written = _stacks(pattern)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    states = [stack.initial_state(2) for stack in (right, written)]
    with torch.no_grad():
        for position in range(5):
            (a, states[0]), (b, states[1]) = (
                stack.step(x[:, position], state)
                for stack, state in zip((right, written), states, strict=True)
            )
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)
