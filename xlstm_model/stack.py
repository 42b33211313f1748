"""Stacks of mLSTM and sLSTM blocks: any pattern, one state, one final norm."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xlstm_model.blocks import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock
from xlstm_model.blocks.checks import check_choice, check_dropout, check_input, zero_padding
from xlstm_model.blocks.mlstm_large import LARGE_NORM_EPS
from xlstm_model.blocks.recurrence import Gate, MLSTMForm, SLSTMCellName
from xlstm_model.blocks.slstm import ConvGates, ForgetBias
from xlstm_model.initialization import MLSTM_FGATE_BIAS
from xlstm_model.layers import FeatureNorm
from xlstm_model.pattern import block_pattern

StackState = tuple[Any, ...]
"""One block state per block, in order."""


class XLSTMStack(nn.Module):
    """Residual stack of xLSTM blocks with a final norm (Beck et al. 2024, section 2.4).

    Every block reads the output of the block before it. Nothing is kept between calls: a state is
    returned with every output and given back to go on. Follows ``SequenceModel``.

    Args:
        embedding_dim: Width D of input, output and residual stream, ≥ 1.
        pattern: Letters in block order (``"msm"``) or a ratio (``"7:1"``); see ``block_pattern``.
        num_blocks: A multiple of the blocks the pattern spells, or ``"pattern"`` for just those.
        num_heads: Heads NH of every block; divides D in sLSTM blocks and the inner size of mLSTM
            blocks.
        conv_kernel: Width of the causal convolutions in positions, ≥ 1.
        convolution: False leaves the convolutions out.
        mlstm_block: ``published`` (with up-projection and convolution) or ``large`` (7B style).
        mlstm_projection_factor: Inner size of published mLSTM blocks over D, > 0.
        mlstm_qkv_block_size: Size of the diagonal blocks of their q, k, v projections.
        mlstm_form: ``chunkwise`` (O(S)) or ``parallel`` (O(S²)); same numbers.
        mlstm_normalizer: False leaves out normaliser and stabiliser; needs ``gate='sigmoid'``.
        mlstm_fgate_bias: Initial forget-gate bias of an mLSTM block's first and last head.
        chunk_size: Positions per chunk of the chunkwise form, ≥ 1.
        slstm_conv_gates: Which sLSTM gates read the convolved input.
        slstm_cell: ``slstm``, or ``lstm`` or ``rnn`` for the strip-down ladder.
        slstm_feed_forward: False leaves out the sLSTM blocks' feed-forward layer.
        slstm_feed_forward_factor: Its inner size over D, > 0.
        slstm_fgate_bias: Initial sLSTM forget-gate bias, ``powerlaw`` or ``zeros``.
        inner_multiple: Inner sizes are rounded up to a multiple of this, ≥ 1.
        gate: Input gate of both cells, ``exp`` or ``sigmoid``.
        norm: False leaves out every norm, the final one too.
        residual: False leaves out every residual.
        dropout: On every block's branches, 0 ≤ dropout < 1.
        dropout_schedule: ``constant``, or ``linear`` from dropout / num_blocks in the first block
            to dropout in the last.
        learned_initial_state: Make the blocks' initial states parameters.
        gradient_checkpointing: Recompute each block in the backward pass instead of keeping its
            intermediate values: less memory, one more forward, same gradients.
        eps: Added to the mLSTM denominator after stabilising, ≥ 0; for parity only.

    Raises:
        ValueError: If a setting is out of range; the message names it, its value and the fix.

    Shapes: input and output (B, S, D).

    >>> stack = XLSTMStack(8, "msm", num_heads=2)
    >>> y, state = stack(torch.zeros(2, 5, 8))
    >>> y.shape, len(state)
    (torch.Size([2, 5, 8]), 3)
    >>> y, state = stack.step(torch.zeros(2, 8), state)
    >>> y.shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        embedding_dim: int,
        pattern: str = "msm",
        *,
        num_blocks: int | Literal["pattern"] = "pattern",
        num_heads: int = 4,
        conv_kernel: int = 4,
        convolution: bool = True,
        mlstm_block: Literal["published", "large"] = "published",
        mlstm_projection_factor: float = 2.0,
        mlstm_qkv_block_size: int = 4,
        mlstm_form: MLSTMForm = "chunkwise",
        mlstm_normalizer: bool = True,
        mlstm_fgate_bias: tuple[float, float] = MLSTM_FGATE_BIAS,
        chunk_size: int = 64,
        slstm_conv_gates: ConvGates = "if",
        slstm_cell: SLSTMCellName = "slstm",
        slstm_feed_forward: bool = True,
        slstm_feed_forward_factor: float = 1.3,
        slstm_fgate_bias: ForgetBias = "powerlaw",
        inner_multiple: int = 64,
        gate: Gate = "exp",
        norm: bool = True,
        residual: bool = True,
        dropout: float = 0.0,
        dropout_schedule: Literal["constant", "linear"] = "constant",
        learned_initial_state: bool = False,
        gradient_checkpointing: bool = False,
        eps: float = 0.0,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        check_choice("mlstm_block", mlstm_block, ("published", "large"))
        check_choice("dropout_schedule", dropout_schedule, ("constant", "linear"))
        check_dropout(dropout)
        _check_large(given)
        self.settings: dict[str, Any] = {"type": "XLSTMStack", **given}
        self.embedding_dim = embedding_dim
        self.gradient_checkpointing = gradient_checkpointing
        self.pattern = block_pattern(pattern, num_blocks)
        self.blocks = nn.ModuleList(
            _block(given, i, self.pattern) for i in range(len(self.pattern))
        )
        kind, norm_eps = ("rms", LARGE_NORM_EPS) if mlstm_block == "large" else ("layer", 1e-5)
        self.norm = FeatureNorm(embedding_dim, kind, norm_eps) if norm else nn.Identity()

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> StackState:
        """State before the first position, one entry per block.

        Args:
            batch_size: B.
            device: Defaults to the parameters' device.
            dtype: Defaults to the parameters' dtype; half precisions keep the cells in float32.
        """
        return tuple(b.initial_state(batch_size, device=device, dtype=dtype) for b in self.blocks)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: StackState | None = None
    ) -> tuple[Tensor, StackState]:
        """Map a whole sequence.

        Args:
            x: Inputs (B, S, D), S ≥ 1, any length.
            mask: Bool (B, S), True where real; all real when absent. Padding may stand anywhere
                and hold anything, NaN included: outputs there are zero and nothing else changes.
            state: What an earlier call returned, to go on from there; the initial state when
                absent.

        Returns:
            Outputs (B, S, D), and the state after the last real position of each sample.

        Raises:
            ValueError: If a shape is wrong, or the state has another number of blocks or samples.
            TypeError: If the mask is not bool.
        """
        check_input(x, self.embedding_dim, mask)
        states = self._checked(state, x)
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        after = []
        for block, before in zip(self.blocks, states, strict=True):
            if recompute:
                x, new = checkpoint(block, x, mask=mask, state=before, use_reentrant=False)
            else:
                x, new = block(x, mask=mask, state=before)
            after.append(new)
        return zero_padding(self.norm(x), mask), tuple(after)

    def step(self, x: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """Map one position.

        Pure and differentiable: the given state is not changed, and gradients flow through the
        returned one.

        Args:
            x: Inputs (B, D).
            state: From ``initial_state``, ``forward`` or ``step``.

        Returns:
            Outputs (B, D) and the next state.
        """
        after = []
        for block, before in zip(self.blocks, self._checked(state, x), strict=True):
            x, new = block.step(x, before)
            after.append(new)
        return self.norm(x), tuple(after)

    def _checked(self, state: StackState | None, x: Tensor) -> tuple[Any, ...]:
        if state is None:
            return (None,) * len(self.blocks)
        if len(state) != len(self.blocks):
            raise ValueError(
                f"state has {len(state)} block states; expected {len(self.blocks)}, one per block "
                f"of pattern {self.pattern!r}. Take it from this stack's initial_state or forward."
            )
        first = state[0]
        while not isinstance(first, Tensor):
            first = first[0]
        if first.shape[0] != x.shape[0]:
            raise ValueError(
                f"state holds {first.shape[0]} samples; expected {x.shape[0]}, as many as x. Take "
                "the right ones with index_select_state."
            )
        return state


def _check_large(given: dict[str, Any]) -> None:
    """Refuse settings that a 7B-style block would leave without effect."""
    plain = {"gate": "exp", "norm": True, "residual": True, "mlstm_normalizer": True}
    for name, value in plain.items():
        if given["mlstm_block"] == "large" and given[name] != value:
            raise ValueError(
                f"{name} is {given[name]!r} with mlstm_block 'large'; expected {value!r}, the only "
                "one that block has. Set mlstm_block='published' to change it."
            )


def _block(given: dict[str, Any], index: int, pattern: str) -> nn.Module:
    """Block number ``index`` of a stack with the given settings."""
    depth = len(pattern)
    dropout = given["dropout"]
    if given["dropout_schedule"] == "linear":
        dropout *= (index + 1) / depth
    shared = {
        name: given[name] for name in ("num_heads", "inner_multiple", "learned_initial_state")
    } | {"dropout": dropout, "num_blocks": depth}
    cut = {name: given[name] for name in ("conv_kernel", "convolution", "gate", "norm", "residual")}
    mlstm = {
        "form": given["mlstm_form"],
        "chunk_size": given["chunk_size"],
        "eps": given["eps"],
        "fgate_bias": given["mlstm_fgate_bias"],
    }
    if pattern[index] == "s":
        return SLSTMBlock(
            given["embedding_dim"],
            **shared,
            **cut,
            conv_gates=given["slstm_conv_gates"],
            cell=given["slstm_cell"],
            feed_forward=given["slstm_feed_forward"],
            feed_forward_factor=given["slstm_feed_forward_factor"],
            fgate_bias=given["slstm_fgate_bias"],
            block_index=index,
        )
    if given["mlstm_block"] == "large":
        return MLSTMLargeBlock(given["embedding_dim"], **shared, **mlstm)
    return MLSTMBlock(
        given["embedding_dim"],
        **shared,
        **cut,
        **mlstm,
        projection_factor=given["mlstm_projection_factor"],
        qkv_block_size=given["mlstm_qkv_block_size"],
        normalizer=given["mlstm_normalizer"],
    )
