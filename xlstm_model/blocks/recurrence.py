"""The two cells as modules: which form runs, with which gates, from which initial state."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlstm_model.blocks.checks import check_at_least, check_choice
from xlstm_model.blocks.stripped import mlstm_unnormalized, stripped_sequence, stripped_step
from xlstm_model.cells import (
    MLSTMState,
    SLSTMState,
    empty_mlstm_state,
    empty_slstm_state,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_step,
    slstm_sequence,
    slstm_step,
)

Gate = Literal["exp", "sigmoid"]
"""Input gate: exponential as published, or sigmoid."""

MLSTMForm = Literal["parallel", "chunkwise"]
"""How a whole sequence runs through the mLSTM: O(S²) at once, or in chunks at O(S)."""

SLSTMCellName = Literal["slstm", "lstm", "rnn"]
"""The published sLSTM, or what is left of it at the end of the strip-down ladder."""


class MLSTMRecurrence(nn.Module):
    """The mLSTM cell with its form and gates chosen, and an optional learned initial state.

    Equations: Beck et al. 2024, eq. 19–27; see ``xlstm_model.cells``. It has no parameters unless
    the initial state is learned: then ``c`` and ``n`` at m = 0 are parameters that start at zero.

    Args:
        num_heads: NH.
        qk_dim: Size of queries and keys per head.
        v_dim: Size of values per head.
        form: ``parallel`` or ``chunkwise``; both give the same numbers.
        chunk_size: Positions per chunk of the chunkwise form, ≥ 1.
        gate: Input gate.
        normalizer: Divide by the normaliser. Without it ``gate`` must be ``sigmoid``.
        eps: Added to the denominator after stabilising, for parity with the authors' package.
        learned_initial_state: Make the initial ``c`` and ``n`` parameters.

    Raises:
        ValueError: For an exponential gate without normaliser, or a chunk size below 1.

    >>> cell = MLSTMRecurrence(num_heads=2, qk_dim=4, v_dim=4)
    >>> q = torch.zeros(1, 2, 3, 4)
    >>> h, state = cell(q, q, q, torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    >>> h.shape, state.c.shape
    (torch.Size([1, 2, 3, 4]), torch.Size([1, 2, 4, 4]))
    """

    def __init__(
        self,
        num_heads: int,
        qk_dim: int,
        v_dim: int,
        *,
        form: MLSTMForm = "chunkwise",
        chunk_size: int = 64,
        gate: Gate = "exp",
        normalizer: bool = True,
        eps: float = 0.0,
        learned_initial_state: bool = False,
    ) -> None:
        super().__init__()
        check_choice("gate", gate, ("exp", "sigmoid"))
        check_choice("form", form, ("parallel", "chunkwise"))
        check_at_least(1, chunk_size=chunk_size)
        if not normalizer and gate == "exp":
            raise ValueError(
                "normalizer is False with gate 'exp'; expected gate 'sigmoid', since an "
                "exponential gate overflows without its normaliser. Set gate='sigmoid' as well."
            )
        self.num_heads, self.qk_dim, self.v_dim = num_heads, qk_dim, v_dim
        self.form, self.chunk_size = form, chunk_size
        self.gate, self.normalizer, self.eps = gate, normalizer, eps
        self.learned_initial_state = learned_initial_state
        if learned_initial_state:
            self.initial_c = nn.Parameter(torch.zeros(num_heads, qk_dim, v_dim))
            self.initial_n = nn.Parameter(torch.zeros(num_heads, qk_dim))

    def initial_state(
        self, batch_size: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> MLSTMState:
        """State before the first position: empty (c = n = 0, m = −∞), or the learned one."""
        empty = empty_mlstm_state(
            batch_size, self.num_heads, self.qk_dim, self.v_dim, device=device, dtype=dtype
        )
        if not self.learned_initial_state:
            return empty
        return MLSTMState(
            empty.c + self.initial_c, empty.n + self.initial_n, torch.zeros_like(empty.m)
        )

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        *,
        mask: Tensor | None = None,
        state: MLSTMState | None = None,
    ) -> tuple[Tensor, MLSTMState]:
        """Run q, k (B, NH, S, DHQK), v (B, NH, S, DHV) and gates (B, NH, S) through the cell."""
        if state is None and (self.learned_initial_state or not self.normalizer):
            state = self.initial_state(q.shape[0], device=q.device, dtype=q.dtype)
        if self.gate == "sigmoid":
            igate_preact = F.logsigmoid(igate_preact)
        inputs = (q, k, v, igate_preact, fgate_preact)
        if not self.normalizer:
            return mlstm_unnormalized(*inputs, state=state, mask=mask)
        if self.form == "parallel":
            return mlstm_parallel(*inputs, state=state, mask=mask, eps=self.eps)
        return mlstm_chunkwise(
            *inputs, state=state, mask=mask, eps=self.eps, chunk_size=self.chunk_size
        )

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        igate_preact: Tensor,
        fgate_preact: Tensor,
        state: MLSTMState,
    ) -> tuple[Tensor, MLSTMState]:
        """Run one position: q, k (B, NH, DHQK), v (B, NH, DHV), gates (B, NH)."""
        if self.gate == "sigmoid":
            igate_preact = F.logsigmoid(igate_preact)
        if self.normalizer:
            return mlstm_step(q, k, v, igate_preact, fgate_preact, state, eps=self.eps)
        inputs = (t.unsqueeze(2) for t in (q, k, v, igate_preact, fgate_preact))
        h, state = mlstm_unnormalized(*inputs, state=state)
        return h.squeeze(2), state


class SLSTMRecurrence(nn.Module):
    """The sLSTM cell with its recurrent weights and biases, one block of weights per head.

    Equations: Beck et al. 2024, eq. 8–18; see ``xlstm_model.cells``. Recurrent weights start at
    zero. A learned initial state has ``h``, ``c`` and ``log n`` at m = 0 as parameters.

    Args:
        num_heads: NH.
        head_dim: DH.
        gate: Input gate of the published cell.
        cell: ``slstm``, or ``lstm`` or ``rnn``, which have no normaliser and no stabiliser.
        learned_initial_state: Make the initial state a parameter.

    >>> cell = SLSTMRecurrence(num_heads=2, head_dim=4)
    >>> h, state = cell(torch.zeros(1, 3, 4, 2, 4))
    >>> h.shape, state.n.shape
    (torch.Size([1, 3, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        gate: Gate = "exp",
        cell: SLSTMCellName = "slstm",
        learned_initial_state: bool = False,
    ) -> None:
        super().__init__()
        check_choice("gate", gate, ("exp", "sigmoid"))
        check_choice("cell", cell, ("slstm", "lstm", "rnn"))
        self.num_heads, self.head_dim = num_heads, head_dim
        self.gate, self.cell = gate, cell
        self.num_gates = 1 if cell == "rnn" else 4
        self.learned_initial_state = learned_initial_state
        self.recurrent_weight = nn.Parameter(
            torch.zeros(num_heads, head_dim, self.num_gates, head_dim)
        )
        self.bias = nn.Parameter(torch.zeros(num_heads, self.num_gates, head_dim))
        if learned_initial_state:
            self.initial_h = nn.Parameter(torch.zeros(num_heads, head_dim))
            self.initial_c = nn.Parameter(torch.zeros(num_heads, head_dim))
            if cell == "slstm":
                self.initial_log_n = nn.Parameter(torch.zeros(num_heads, head_dim))

    def initial_state(
        self, batch_size: int, *, device: torch.device | str, dtype: torch.dtype
    ) -> SLSTMState:
        """State before the first position: empty (zeros, m = −∞), or the learned one."""
        empty = empty_slstm_state(
            batch_size, self.num_heads, self.head_dim, device=device, dtype=dtype
        )
        if not self.learned_initial_state:
            return empty
        h, c = empty.h + self.initial_h, empty.c + self.initial_c
        n = empty.n + self.initial_log_n.exp() if self.cell == "slstm" else empty.n
        return SLSTMState(h, c, n, torch.zeros_like(empty.m))

    def forward(
        self, gates_preact: Tensor, *, mask: Tensor | None = None, state: SLSTMState | None = None
    ) -> tuple[Tensor, SLSTMState]:
        """Run gates (B, S, G, NH, DH), ordered i, f, z, o, through the cell to h (B, S, NH, DH)."""
        if state is None and (self.learned_initial_state or self.cell != "slstm"):
            state = self.initial_state(
                gates_preact.shape[0], device=gates_preact.device, dtype=gates_preact.dtype
            )
        weights = (self.recurrent_weight, self.bias)
        if self.cell != "slstm":
            return stripped_sequence(gates_preact, *weights, cell=self.cell, state=state, mask=mask)
        return slstm_sequence(gates_preact, *weights, state=state, mask=mask, gate=self.gate)

    def step(self, gates_preact: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        """Run one position (B, G, NH, DH) to h (B, NH, DH)."""
        weights = (self.recurrent_weight, self.bias)
        if self.cell != "slstm":
            return stripped_step(gates_preact, *weights, state, cell=self.cell)
        return slstm_step(gates_preact, *weights, state, gate=self.gate)
