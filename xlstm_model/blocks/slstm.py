"""The published sLSTM block: convolution, scalar memory with recurrent mixing, feed-forward."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.blocks.checks import (
    check_at_least,
    check_choice,
    check_divides,
    check_dropout,
    check_input,
    zero_padding,
)
from xlstm_model.blocks.compiled_feed_forward import feed_forward_pass
from xlstm_model.blocks.compiled_slstm import slstm_block_pass
from xlstm_model.blocks.compiled_steps import slstm_block_step
from xlstm_model.blocks.head_merge import HeadMerge
from xlstm_model.blocks.recurrence import Gate, SLSTMCellName, SLSTMRecurrence
from xlstm_model.cells import SLSTMState
from xlstm_model.initialization import (
    init_input_projection,
    init_output_projection,
    slstm_fgate_bias,
)
from xlstm_model.layers import (
    BlockDiagonalLinear,
    CausalConv1d,
    FeatureNorm,
    GatedFeedForward,
    conv_silu,
)

ConvGates = Literal["if", "ifzo"]
"""Which sLSTM gates read the convolved input: the published i and f, or all four."""

ForgetBias = Literal["powerlaw", "zeros"]
"""How the sLSTM forget-gate bias starts."""


class SLSTMBlockState(NamedTuple):
    """State of an ``SLSTMBlock``, per sample.

    >>> state = SLSTMBlock(8, num_heads=2).initial_state(3)
    >>> state.cell.c.shape, state.conv.shape
    (torch.Size([3, 2, 4]), torch.Size([3, 3, 8]))
    """

    cell: SLSTMState
    """h, c, n, m, each (B, NH, DH)."""
    conv: Tensor
    """Last k − 1 inputs of the convolution (B, k − 1, D)."""


class SLSTMBlock(nn.Module):
    """Residual block around the sLSTM cell (Beck et al. 2024, figure 10), post up-projection.

    LayerNorm, causal convolution and SiLU, gates from the convolved or raw input, cell, head-wise
    norm, residual; then LayerNorm, gated feed-forward, residual.

    Shapes: input and output (B, S, D); the state is an ``SLSTMBlockState``.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        num_heads: NH ≥ 1.
        conv_gates: ``if`` feeds i and f from the convolution and z and o from the raw input, as
            published; ``ifzo`` feeds all four from the convolution.
        conv_kernel: Width of the causal convolution in positions, ≥ 1.
        convolution: False feeds every gate from the raw input.
        gate: Input gate of the published cell, ``exp`` or ``sigmoid``.
        cell: ``slstm``, or ``lstm`` or ``rnn`` for the strip-down ladder.
        feed_forward: False leaves out the second half of the block.
        feed_forward_factor: Its inner size over D, before rounding up; > 0.
        inner_multiple: That inner size is rounded up to a multiple of this.
        norm: False leaves out the three norms.
        residual: False leaves out both residuals.
        dropout: On both branches before their residual, 0 ≤ dropout < 1.
        fgate_bias: ``powerlaw`` (published) or ``zeros``.
        learned_initial_state: Make the cell's initial state a parameter.
        block_index: Position in the stack, from 0; shapes the power law.
        num_blocks: Blocks of the stack.

    Raises:
        ValueError: If a size, kernel, dropout or divisor is out of range, or an ``rnn``, which
            has only the gate z, would never read the convolution.

    >>> block = SLSTMBlock(8, num_heads=2)
    >>> y, state = block(torch.zeros(3, 5, 8))
    >>> y.shape, state.cell.h.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 2, 4]))
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_heads: int = 4,
        conv_gates: ConvGates = "if",
        conv_kernel: int = 4,
        convolution: bool = True,
        gate: Gate = "exp",
        cell: SLSTMCellName = "slstm",
        feed_forward: bool = True,
        feed_forward_factor: float = 1.3,
        inner_multiple: int = 64,
        norm: bool = True,
        residual: bool = True,
        dropout: float = 0.0,
        fgate_bias: ForgetBias = "powerlaw",
        learned_initial_state: bool = False,
        block_index: int = 0,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(1, embedding_dim=embedding_dim, conv_kernel=conv_kernel)
        check_divides("num_heads", num_heads, "embedding_dim", embedding_dim)
        check_choice("conv_gates", conv_gates, ("if", "ifzo"))
        check_choice("fgate_bias", fgate_bias, ("powerlaw", "zeros"))
        check_dropout(dropout)
        self.gate_names = "z" if cell == "rnn" else "ifzo"
        self.convolved = "".join(g for g in self.gate_names if convolution and g in conv_gates)
        self.raw = "".join(g for g in self.gate_names if g not in self.convolved)
        if convolution and not self.convolved:
            raise ValueError(
                "cell is 'rnn' with conv_gates 'if'; expected 'ifzo', since its only gate is z and "
                "the convolution would go unread. Set conv_gates='ifzo' or convolution=False."
            )
        self.embedding_dim, self.num_heads = embedding_dim, num_heads
        self.head_dim = embedding_dim // num_heads
        self.residual = residual
        self.norm = FeatureNorm(embedding_dim, for_product=True) if norm else nn.Identity()
        self.conv = CausalConv1d(embedding_dim, conv_kernel) if convolution else None
        self.convolved_gates = self._gate_projection(self.convolved)
        self.raw_gates = self._gate_projection(self.raw)
        heads = num_heads, self.head_dim
        self.recurrence = SLSTMRecurrence(
            *heads, gate=gate, cell=cell, learned_initial_state=learned_initial_state
        )
        self.head_merge = HeadMerge(*heads, norm=norm)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward_norm = (
            FeatureNorm(embedding_dim, for_product=True) if feed_forward and norm else None
        )
        self.feed_forward = (
            GatedFeedForward(
                embedding_dim, feed_forward_factor, multiple_of=inner_multiple, dropout=dropout
            )
            if feed_forward
            else None
        )
        self._initialize(fgate_bias, block_index, num_blocks)

    @torch.no_grad()
    def _initialize(self, fgate_bias: ForgetBias, block_index: int, num_blocks: int) -> None:
        if self.feed_forward is not None:
            init_input_projection(self.feed_forward.proj_up.weight, self.embedding_dim)
            init_output_projection(
                self.feed_forward.proj_down.weight, self.embedding_dim, num_blocks
            )
        if fgate_bias == "powerlaw" and self.recurrence.cell != "rnn":
            self.recurrence.bias[:, 1] = slstm_fgate_bias(
                self.num_heads, self.head_dim, block_index, num_blocks
            )

    def _gate_projection(self, names: str) -> BlockDiagonalLinear | None:
        """Gates side by side within each head: (…, D) to (…, NH, gates, DH)."""
        if not names:
            return None
        width = len(names) * self.embedding_dim
        projection = BlockDiagonalLinear(self.embedding_dim, width, self.num_heads, bias=False)
        init_input_projection(projection.weight, self.embedding_dim)
        return projection

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SLSTMBlockState:
        """State before the first position; device and dtype default to the parameters'."""
        like = self.recurrence.bias
        device, dtype = device or like.device, dtype or like.dtype
        conv = (
            torch.zeros(batch_size, 0, self.embedding_dim, device=device, dtype=dtype)
            if self.conv is None
            else self.conv.initial_state(batch_size, device=device, dtype=dtype)
        )
        cell = self.recurrence.initial_state(batch_size, device=device, dtype=dtype)
        return SLSTMBlockState(cell, conv)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: SLSTMBlockState | None = None
    ) -> tuple[Tensor, SLSTMBlockState]:
        """Map a whole sequence; see ``SequenceModel.forward``."""
        check_input(x, self.embedding_dim, mask)
        found = slstm_block_pass(self, x, mask, state) if type(self) is SLSTMBlock else None
        if found is not None:
            y, conv, *cell = found
            state = SLSTMBlockState(SLSTMState(*cell), conv)
            return zero_padding(self._second_half(y), mask), state
        x = zero_padding(x, mask)
        h, conv, cell = self.cell_outputs(x, mask, state)
        return zero_padding(self._output(x, h), mask), SLSTMBlockState(cell, conv)

    def cell_outputs(
        self, x: Tensor, mask: Tensor | None, state: SLSTMBlockState | None
    ) -> tuple[Tensor, Tensor, SLSTMState]:
        """The cell and what stands before it, layer by layer.

        Args:
            x: (B, S, D), 0 at padding.
            mask: Bool (B, S), True = real.
            state: Before the sequence.

        Returns:
            The cell's outputs (B, S, NH, DH), the convolution's next state and the cell's.
        """
        inner = self.norm(x)
        mixed, conv = conv_silu(self.conv, inner, mask, None if state is None else state.conv)
        h, cell = self.recurrence(
            self._gates(inner, mixed), mask=mask, state=None if state is None else state.cell
        )
        return h, conv, cell

    def step(self, x: Tensor, state: SLSTMBlockState) -> tuple[Tensor, SLSTMBlockState]:
        """Map one position (B, D); see ``SequenceModel.step``."""
        fused = slstm_block_step(self, x, state) if type(self) is SLSTMBlock else None
        if fused is not None:
            return fused[0], SLSTMBlockState(SLSTMState(*fused[2:]), fused[1])
        inner = self.norm(x)
        mixed, conv = (
            (inner, state.conv) if self.conv is None else self.conv.step(inner, state.conv)
        )
        h, cell = self.recurrence.step(self._gates(inner, F.silu(mixed)), state.cell)
        return self._output(x, h), SLSTMBlockState(cell, conv)

    def _gates(self, inner: Tensor, mixed: Tensor) -> Tensor:
        """Pre-activations (..., G, NH, DH), ordered i, f, z, o."""
        parts = []
        if self.convolved_gates is not None:
            parts.append(self._split(self.convolved_gates(mixed)))
        if self.raw_gates is not None:
            parts.append(self._split(self.raw_gates(inner)))
        return torch.cat(parts, dim=-3)

    def _split(self, gates: Tensor) -> Tensor:
        """(..., NH · gates · DH) to (..., gates, NH, DH)."""
        return gates.unflatten(-1, (self.num_heads, -1, self.head_dim)).transpose(-3, -2)

    def _output(self, x: Tensor, h: Tensor) -> Tensor:
        y = self.dropout(self.head_merge(h))
        return self._second_half(x + y if self.residual else y)

    def _second_half(self, y: Tensor) -> Tensor:
        if self.feed_forward is None:
            return y
        found = feed_forward_pass(self, y) if type(self) is SLSTMBlock else None
        if found is not None:
            return found
        z = self.feed_forward(y if self.feed_forward_norm is None else self.feed_forward_norm(y))
        return y + z if self.residual else z
