"""The mLSTM block of xLSTM 7B: no convolution, dense projections, soft-capped gates, SwiGLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlstm_model.blocks.checks import (
    check_above_zero,
    check_at_least,
    check_divides,
    check_dropout,
    check_input,
    zero_padding,
)
from xlstm_model.blocks.head_merge import HeadMerge
from xlstm_model.blocks.recurrence import MLSTMForm, MLSTMRecurrence
from xlstm_model.cells import MLSTMState
from xlstm_model.initialization import (
    MLSTM_FGATE_BIAS,
    MLSTM_LARGE_IGATE_BIAS,
    init_input_projection,
    init_output_projection,
    mlstm_fgate_bias,
)
from xlstm_model.layers import FeatureNorm, GatedFeedForward

LARGE_NORM_EPS = 1e-6
"""Added to the variance or mean square by every norm of this block."""


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """Bound values smoothly to ±cap: ``cap · tanh(x / cap)`` (arXiv 2503.13427).

    >>> soft_cap(torch.tensor([0.0, 1e9]), 15.0)
    tensor([ 0., 15.])
    """
    return cap * torch.tanh(x / cap)


class MLSTMLargeBlock(nn.Module):
    """Residual mLSTM block of xLSTM 7B (Beck et al. 2025, arXiv 2503.13427, section 3).

    RMSNorm, dense q, k, v with narrow queries and keys, soft-capped gates, cell, head-wise norm
    under a sigmoid output gate, projection, residual; then RMSNorm, SwiGLU, residual.

    Shapes: input and output (B, S, D); the state is an ``MLSTMState``.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        num_heads: NH ≥ 1.
        qk_factor: Width of queries and keys over D; gives whole head sizes.
        gate_cap: Gate pre-activations are bounded to ± this, > 0.
        feed_forward_factor: Inner size of the SwiGLU over D, before rounding up; > 0.
        inner_multiple: That inner size is rounded up to a multiple of this.
        form: ``chunkwise`` (O(S)) or ``parallel`` (O(S²)); same numbers.
        chunk_size: Positions per chunk, ≥ 1.
        dropout: On both branches before their residual, 0 ≤ dropout < 1.
        eps: Added to the cell's denominator after stabilising, ≥ 0; for parity only.
        igate_bias: Initial input-gate bias.
        fgate_bias: Forget-gate bias of the first and last head.
        learned_initial_state: Make the cell's initial state a parameter.
        num_blocks: Blocks of the stack it sits in; scales the output projections' init.

    Raises:
        ValueError: If a size, dropout or divisor is out of range.

    >>> block = MLSTMLargeBlock(8, num_heads=2)
    >>> y, state = block(torch.zeros(3, 5, 8))
    >>> y.shape, state.c.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 2, 2, 4]))
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_heads: int = 4,
        qk_factor: float = 0.5,
        gate_cap: float = 15.0,
        feed_forward_factor: float = 2.667,
        inner_multiple: int = 64,
        form: MLSTMForm = "chunkwise",
        chunk_size: int = 64,
        dropout: float = 0.0,
        eps: float = 0.0,
        igate_bias: float = MLSTM_LARGE_IGATE_BIAS,
        fgate_bias: tuple[float, float] = MLSTM_FGATE_BIAS,
        learned_initial_state: bool = False,
        num_blocks: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(1, embedding_dim=embedding_dim, num_blocks=num_blocks)
        check_at_least(0, eps=eps)
        check_above_zero(gate_cap=gate_cap)
        check_dropout(dropout)
        check_divides("num_heads", num_heads, "embedding_dim", embedding_dim)
        qk = int(embedding_dim * qk_factor)
        check_at_least(1, **{"embedding_dim * qk_factor": qk})
        check_divides("num_heads", num_heads, "embedding_dim * qk_factor", qk)
        self.embedding_dim, self.num_heads, self.gate_cap = embedding_dim, num_heads, gate_cap
        self.norm = FeatureNorm(embedding_dim, "rms", LARGE_NORM_EPS, for_product=True)
        self.q_proj = nn.Linear(embedding_dim, qk, bias=False)
        self.k_proj = nn.Linear(embedding_dim, qk, bias=False)
        self.v_proj = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.ogate = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.igate = nn.Linear(embedding_dim, num_heads)
        self.fgate = nn.Linear(embedding_dim, num_heads)
        self.recurrence = MLSTMRecurrence(
            num_heads,
            qk // num_heads,
            embedding_dim // num_heads,
            form=form,
            chunk_size=chunk_size,
            eps=eps,
            learned_initial_state=learned_initial_state,
        )
        self.head_merge = HeadMerge(num_heads, embedding_dim // num_heads, eps=LARGE_NORM_EPS)
        self.proj_down = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.feed_forward_norm = FeatureNorm(embedding_dim, "rms", LARGE_NORM_EPS, for_product=True)
        self.feed_forward = GatedFeedForward(
            embedding_dim, feed_forward_factor, "silu", inner_multiple, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self._initialize(igate_bias, fgate_bias, num_blocks)

    @torch.no_grad()
    def _initialize(
        self, igate_bias: float, fgate_bias: tuple[float, float], num_blocks: int
    ) -> None:
        dim = self.embedding_dim
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.ogate, self.feed_forward.proj_up):
            init_input_projection(layer.weight, dim)
        for layer in (self.proj_down, self.feed_forward.proj_down):
            init_output_projection(layer.weight, dim, num_blocks)
        nn.init.zeros_(self.igate.weight)
        nn.init.constant_(self.igate.bias, igate_bias)
        nn.init.zeros_(self.fgate.weight)
        self.fgate.bias.copy_(mlstm_fgate_bias(self.num_heads, fgate_bias))

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> MLSTMState:
        """State before the first position; device and dtype default to the parameters'."""
        like = self.fgate.bias
        return self.recurrence.initial_state(
            batch_size, device=device or like.device, dtype=dtype or like.dtype
        )

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: MLSTMState | None = None
    ) -> tuple[Tensor, MLSTMState]:
        """Map a whole sequence; see ``SequenceModel.forward``."""
        check_input(x, self.embedding_dim, mask)
        x = zero_padding(x, mask)
        inner = self.norm(x)
        inputs = (t.transpose(1, 2) for t in self._cell_inputs(inner))
        h, state = self.recurrence(*inputs, mask=mask, state=state)
        return zero_padding(self._output(x, inner, h.transpose(1, 2)), mask), state

    def step(self, x: Tensor, state: MLSTMState) -> tuple[Tensor, MLSTMState]:
        """Map one position (B, D); see ``SequenceModel.step``."""
        inner = self.norm(x)
        h, state = self.recurrence.step(*self._cell_inputs(inner), state)
        return self._output(x, inner, h), state

    def _cell_inputs(self, inner: Tensor) -> tuple[Tensor, ...]:
        """q, k, v (..., NH, DH) and gate pre-activations (..., NH)."""
        heads = (self.num_heads, -1)
        return (
            self.q_proj(inner).unflatten(-1, heads),
            self.k_proj(inner).unflatten(-1, heads),
            self.v_proj(inner).unflatten(-1, heads),
            soft_cap(self.igate(inner), self.gate_cap),
            soft_cap(self.fgate(inner), self.gate_cap),
        )

    def _output(self, x: Tensor, inner: Tensor, h: Tensor) -> Tensor:
        merged = torch.sigmoid(self.ogate(inner)) * self.head_merge(h)
        y = x + self.dropout(self.proj_down(merged))
        return y + self.feed_forward(self.feed_forward_norm(y))
