"""The published mLSTM block: up-projection, convolution, matrix memory, gated down-projection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.blocks.checks import (
    check_above_zero,
    check_at_least,
    check_divides,
    check_dropout,
    check_input,
    zero_padding,
)
from xlstm_model.blocks.compiled_mlstm import mlstm_block_pass
from xlstm_model.blocks.compiled_steps import mlstm_block_step
from xlstm_model.blocks.head_merge import HeadMerge
from xlstm_model.blocks.recurrence import Gate, MLSTMForm, MLSTMRecurrence
from xlstm_model.cells import MLSTMState
from xlstm_model.initialization import (
    MLSTM_FGATE_BIAS,
    MLSTM_IGATE_BIAS_STD,
    init_input_projection,
    init_output_projection,
    mlstm_fgate_bias,
)
from xlstm_model.layers import (
    BlockDiagonalLinear,
    CausalConv1d,
    FeatureNorm,
    gated_merge,
    mlstm_inputs,
    round_up,
)


class MLSTMBlockState(NamedTuple):
    """State of an ``MLSTMBlock``, per sample.

    >>> state = MLSTMBlock(8, num_heads=2).initial_state(3)
    >>> state.cell.c.shape, state.conv.shape
    (torch.Size([3, 2, 32, 32]), torch.Size([3, 3, 64]))
    """

    cell: MLSTMState
    """Matrix memory c (B, NH, DH, DH), normaliser n (B, NH, DH), log scale m (B, NH)."""
    conv: Tensor
    """Last k − 1 inputs of the convolution (B, k − 1, inner_dim)."""


class MLSTMBlock(nn.Module):
    """Residual block around the mLSTM cell (Beck et al. 2024, figure 11), pre up-projection.

    LayerNorm, up-projection to x and z, causal convolution and SiLU on x, queries and keys from
    the convolution and values from before it, gates from all three, cell, head-wise norm, a
    learnable skip from the convolution, SiLU(z) gate, down-projection, residual.

    Shapes: input and output (B, S, D); the state is an ``MLSTMBlockState``.

    Args:
        embedding_dim: D ≥ 1, any size.
        num_heads: NH, a divisor of the inner size.
        projection_factor: Inner size over D, before rounding up; > 0.
        inner_multiple: The inner size is rounded up to a multiple of this.
        qkv_block_size: Size of the diagonal blocks of the q, k, v projections.
        conv_kernel: Width of the causal convolution in positions, ≥ 1.
        convolution: False leaves the convolution out (its SiLU stays).
        form: ``chunkwise`` (O(S)) or ``parallel`` (O(S²)); same numbers.
        chunk_size: Positions per chunk, ≥ 1.
        gate: Input gate, ``exp`` as published or ``sigmoid``.
        normalizer: False leaves normaliser and stabiliser out; needs ``gate='sigmoid'``.
        norm: False leaves out both norms.
        residual: False leaves out the residual.
        dropout: On the branch before the residual, 0 ≤ dropout < 1.
        eps: Added to the cell's denominator after stabilising, ≥ 0; for parity only.
        igate_bias: Mean of the initial input-gate bias.
        fgate_bias: Forget-gate bias of the first and last head.
        learned_initial_state: Make the cell's initial state a parameter.
        num_blocks: Blocks of the stack it sits in; scales the output projection's init.

    Raises:
        ValueError: If a size, kernel, dropout or divisor is out of range.

    >>> block = MLSTMBlock(8, num_heads=2)
    >>> y, state = block(torch.zeros(3, 5, 8))
    >>> y.shape, state.conv.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 3, 64]))
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_heads: int = 4,
        projection_factor: float = 2.0,
        inner_multiple: int = 64,
        qkv_block_size: int = 4,
        conv_kernel: int = 4,
        convolution: bool = True,
        form: MLSTMForm = "chunkwise",
        chunk_size: int = 64,
        gate: Gate = "exp",
        normalizer: bool = True,
        norm: bool = True,
        residual: bool = True,
        dropout: float = 0.0,
        eps: float = 0.0,
        igate_bias: float = 0.0,
        fgate_bias: tuple[float, float] = MLSTM_FGATE_BIAS,
        learned_initial_state: bool = False,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(1, embedding_dim=embedding_dim, inner_multiple=inner_multiple)
        check_at_least(1, conv_kernel=conv_kernel, num_blocks=num_blocks)
        check_at_least(0, eps=eps)
        check_above_zero(projection_factor=projection_factor)
        check_dropout(dropout)
        inner = round_up(projection_factor * embedding_dim, inner_multiple)
        check_divides("num_heads", num_heads, "inner_dim", inner)
        check_divides("qkv_block_size", qkv_block_size, "inner_dim", inner)
        self.embedding_dim, self.inner_dim = embedding_dim, inner
        self.num_heads, self.head_dim = num_heads, inner // num_heads
        self.residual = residual
        groups = inner // qkv_block_size
        self.norm = FeatureNorm(embedding_dim, for_product=True) if norm else nn.Identity()
        self.proj_up = nn.Linear(embedding_dim, 2 * inner, bias=False)
        self.conv = CausalConv1d(inner, conv_kernel) if convolution else None
        self.q_proj = BlockDiagonalLinear(inner, inner, groups, bias=False)
        self.k_proj = BlockDiagonalLinear(inner, inner, groups, bias=False)
        self.v_proj = BlockDiagonalLinear(inner, inner, groups, bias=False)
        self.igate = nn.Linear(3 * inner, num_heads)
        self.fgate = nn.Linear(3 * inner, num_heads)
        self.recurrence = MLSTMRecurrence(
            num_heads,
            self.head_dim,
            self.head_dim,
            form=form,
            chunk_size=chunk_size,
            gate=gate,
            normalizer=normalizer,
            eps=eps,
            learned_initial_state=learned_initial_state,
        )
        self.head_merge = HeadMerge(num_heads, self.head_dim, norm=norm)
        self.skip = nn.Parameter(torch.ones(inner))
        self.proj_down = nn.Linear(inner, embedding_dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self._initialize(igate_bias, fgate_bias, num_blocks)

    @torch.no_grad()
    def _initialize(
        self, igate_bias: float, fgate_bias: tuple[float, float], num_blocks: int
    ) -> None:
        init_input_projection(self.proj_up.weight, self.embedding_dim)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            init_input_projection(projection.weight, self.embedding_dim)
        nn.init.zeros_(self.igate.weight)
        nn.init.normal_(self.igate.bias, mean=igate_bias, std=MLSTM_IGATE_BIAS_STD)
        nn.init.zeros_(self.fgate.weight)
        self.fgate.bias.copy_(mlstm_fgate_bias(self.num_heads, fgate_bias))
        init_output_projection(self.proj_down.weight, self.embedding_dim, num_blocks)

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> MLSTMBlockState:
        """State before the first position; device and dtype default to the parameters'."""
        device, dtype = device or self.skip.device, dtype or self.skip.dtype
        conv = (
            torch.zeros(batch_size, 0, self.inner_dim, device=device, dtype=dtype)
            if self.conv is None
            else self.conv.initial_state(batch_size, device=device, dtype=dtype)
        )
        cell = self.recurrence.initial_state(batch_size, device=device, dtype=dtype)
        return MLSTMBlockState(cell, conv)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: MLSTMBlockState | None = None
    ) -> tuple[Tensor, MLSTMBlockState]:
        """Map a whole sequence; see ``SequenceModel.forward``."""
        check_input(x, self.embedding_dim, mask)
        found = mlstm_block_pass(self, x, mask, state) if type(self) is MLSTMBlock else None
        if found is not None:
            return found[0], MLSTMBlockState(MLSTMState(*found[2:]), found[1])
        x = zero_padding(x, mask)
        inputs, mixed, z, conv = self.cell_inputs(x, mask, state)
        h, cell = self.recurrence(*inputs, mask=mask, state=None if state is None else state.cell)
        y = self._output(x, h.transpose(1, 2), mixed, z)
        return zero_padding(y, mask), MLSTMBlockState(cell, conv)

    def cell_inputs(
        self, x: Tensor, mask: Tensor | None, state: MLSTMBlockState | None
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
        """What stands before the cell, layer by layer.

        Args:
            x: (B, S, D), 0 at padding.
            mask: Bool (B, S), True = real.
            state: Before the sequence.

        Returns:
            The cell's q, k, v (B, NH, S, DH) and gate pre-activations (B, NH, S), the convolution
            with SiLU and z, both (B, S, inner_dim), and the convolution's next state.
        """
        inner, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        (mixed, q, k, v, igate, fgate), conv = mlstm_inputs(
            self.conv,
            (self.q_proj, self.k_proj, self.v_proj),
            (self.igate, self.fgate),
            inner,
            mask,
            None if state is None else state.conv,
        )
        q, k, v = (t.unflatten(-1, (self.num_heads, self.head_dim)) for t in (q, k, v))
        return tuple(t.transpose(1, 2) for t in (q, k, v, igate, fgate)), mixed, z, conv

    def step(self, x: Tensor, state: MLSTMBlockState) -> tuple[Tensor, MLSTMBlockState]:
        """Map one position (B, D); see ``SequenceModel.step``."""
        fused = mlstm_block_step(self, x, state) if type(self) is MLSTMBlock else None
        if fused is not None:
            return fused[0], MLSTMBlockState(MLSTMState(*fused[2:]), fused[1])
        inner, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        mixed, conv = (
            (inner, state.conv) if self.conv is None else self.conv.step(inner, state.conv)
        )
        mixed = F.silu(mixed)
        h, cell = self.recurrence.step(*self._step_inputs(inner, mixed), state.cell)
        return self._output(x, h, mixed, z), MLSTMBlockState(cell, conv)

    def _step_inputs(self, inner: Tensor, mixed: Tensor) -> tuple[Tensor, ...]:
        """q, k, v (..., NH, DH) and gate pre-activations (..., NH)."""
        q, k, v = self.q_proj(mixed), self.k_proj(mixed), self.v_proj(inner)
        gate_input = torch.cat([q, k, v], dim=-1)
        heads = (*q.shape[:-1], self.num_heads, self.head_dim)
        return (
            q.reshape(heads),
            k.reshape(heads),
            v.reshape(heads),
            self.igate(gate_input),
            self.fgate(gate_input),
        )

    def _output(self, x: Tensor, h: Tensor, mixed: Tensor, z: Tensor) -> Tensor:
        merged = gated_merge(h, self.head_merge.norm, self.skip, mixed, z)
        y = self.dropout(self.proj_down(merged))
        return x + y if self.residual else y
