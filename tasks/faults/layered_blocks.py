"""xLSTM's blocks put together of their layers, so that a wrong layer is really what computes.

The model's own blocks may hand the weights of several layers to one compiled kernel, which knows
nothing of a layer whose class was exchanged. These compute the same, one layer after another.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.diagnostics.subject import Subject
from tasks.faults.planting import change_model, swap_class
from xlstm_model.blocks import MLSTMBlock, SLSTMBlock
from xlstm_model.blocks.checks import zero_padding
from xlstm_model.blocks.mlstm import MLSTMBlockState
from xlstm_model.blocks.slstm import SLSTMBlockState


class LayeredMLSTM(MLSTMBlock):
    """The mLSTM block, layer by layer."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        """Map a whole sequence."""
        x = zero_padding(x, mask)
        inner, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        mixed, conv = self.conv(inner, mask, None if state is None else state.conv)
        mixed = F.silu(mixed)
        inputs = (part.transpose(1, 2) for part in self._step_inputs(inner, mixed))
        before = None if state is None else state.cell
        h, cell = self.recurrence(*inputs, mask=mask, state=before)
        y = self._output(x, h.transpose(1, 2), mixed, z)
        return zero_padding(y, mask), MLSTMBlockState(cell, conv)

    def step(self, x: Tensor, state: MLSTMBlockState) -> tuple[Tensor, MLSTMBlockState]:
        """Map one position."""
        inner, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        mixed, conv = (
            (inner, state.conv) if self.conv is None else self.conv.step(inner, state.conv)
        )
        mixed = F.silu(mixed)
        h, cell = self.recurrence.step(*self._step_inputs(inner, mixed), state.cell)
        return self._output(x, h, mixed, z), MLSTMBlockState(cell, conv)

    def _output(self, x: Tensor, h: Tensor, mixed: Tensor, z: Tensor) -> Tensor:
        merged = (self.head_merge(h) + self.skip * mixed) * F.silu(z)
        y = self.dropout(self.proj_down(merged))
        return x + y if self.residual else y


class LayeredSLSTM(SLSTMBlock):
    """The sLSTM block, layer by layer."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, state: Any = None) -> Any:
        """Map a whole sequence."""
        x = zero_padding(x, mask)
        inner = self.norm(x)
        mixed, conv = self.conv(inner, mask, None if state is None else state.conv)
        gates = self._gates(inner, F.silu(mixed))
        before = None if state is None else state.cell
        h, cell = self.recurrence(gates, mask=mask, state=before)
        return zero_padding(self._output(x, h), mask), SLSTMBlockState(cell, conv)


def change_layers(subject: Subject, kind: type[nn.Module], wrong: type) -> Subject:
    """Swap the class of every layer of a kind, in blocks that call their layers."""

    def change(model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            if isinstance(module, kind):
                swap_class(module, wrong)
            elif isinstance(module, MLSTMBlock):
                swap_class(module, LayeredMLSTM)
            elif isinstance(module, SLSTMBlock):
                swap_class(module, LayeredSLSTM)
        return model

    return change_model(subject, change)
