"""xLSTM with the call conventions of ``torch.nn.LSTM``."""

from __future__ import annotations

from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from xlstm_model.blocks.checks import check_at_least
from xlstm_model.padding import lengths_to_mask
from xlstm_model.pattern import block_pattern
from xlstm_model.stack import StackState, XLSTMStack
from xlstm_model.state import (
    detach_state,
    index_select_state,
    move_state,
    reset_state,
    save_state,
)


class XLSTMState(NamedTuple):
    """State of an ``XLSTM``, to pass back in; one entry per sample, in the order of the batch.

    Every method returns a new state and leaves this one as it is.

    >>> model = XLSTM(4, 8)
    >>> _, state = model(torch.randn(5, 2, 4))
    >>> kept = state.detach().index_select(torch.tensor([1]))
    >>> kept.forward[0].conv.shape
    torch.Size([1, 3, 64])
    """

    forward: StackState
    """State of the stack that reads from first to last."""
    backward: StackState
    """State of the one that reads from last to first; empty unless bidirectional."""

    def detach(self) -> XLSTMState:
        """Cut from the graph, for truncated backpropagation through time."""
        return detach_state(self)

    def index_select(self, index: Tensor) -> XLSTMState:
        """Take samples by number int64 (K,): reorder, drop, repeat."""
        return index_select_state(self, index)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> XLSTMState:
        """Copy to a device or floating dtype."""
        return move_state(self, device=device, dtype=dtype)

    def reset(self, where: Tensor) -> XLSTMState:
        """Empty the samples where a bool (B,) is True; the others stay bit for bit."""
        return reset_state(self, where)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a safetensors file; read with ``load_state(path, model.initial_state(1))``."""
        save_state(self, path)


class XLSTM(nn.Module):
    """A stack of xLSTM blocks that is called as ``torch.nn.LSTM`` is.

    ``output, state = model(input, state)`` with (S, B, I), (B, S, I) if ``batch_first``, (S, I) for
    one sequence, or a ``PackedSequence``. The state is one ``XLSTMState`` instead of ``(h, c)``.

    Two things differ from ``nn.LSTM``. Both directions are stacks of their own whose outputs are
    joined at the end, not after each layer. And a state handed to a bidirectional model starts the
    backward stack before the last position, as there, so pieces do not add up to the whole.

    Args:
        input_size: I; a linear map leads to ``hidden_size`` where the two differ.
        hidden_size: H, a multiple of ``num_heads``.
        num_layers: Blocks per direction, ≥ 1.
        batch_first: Batch before time in input and output.
        dropout: On every block's branches, 0 ≤ dropout < 1.
        bidirectional: Read both ways; the output has 2 H features, forward first.
        pattern: Kinds of blocks, repeated up to ``num_layers``.
        num_heads: Heads of every block.
        **stack_settings: Further arguments of ``XLSTMStack``.

    Raises:
        ValueError: If a setting is out of range.

    >>> model = XLSTM(input_size=4, hidden_size=6, num_layers=2)
    >>> output, state = model(torch.randn(5, 3, 4))
    >>> output.shape
    torch.Size([5, 3, 6])
    >>> output, state = model(torch.randn(2, 3, 4), state)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        pattern: str = "ms",
        num_heads: int = 1,
        **stack_settings: Any,
    ) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.settings = {
            "type": "XLSTM",
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "batch_first": batch_first,
            "dropout": dropout,
            "bidirectional": bidirectional,
            "pattern": pattern,
            "num_heads": num_heads,
            **stack_settings,
        }
        self.input_size, self.hidden_size = input_size, hidden_size
        self.batch_first, self.bidirectional = batch_first, bidirectional
        same = input_size == hidden_size
        self.input_map = nn.Identity() if same else nn.Linear(input_size, hidden_size)
        letters = (block_pattern(pattern) * num_layers)[:num_layers]
        stack = {"num_heads": num_heads, "dropout": dropout, **stack_settings}
        self.forward_stack = XLSTMStack(hidden_size, letters, **stack)
        self.backward_stack = XLSTMStack(hidden_size, letters, **stack) if bidirectional else None

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> XLSTMState:
        """State before the first position; device and dtype default to the parameters'."""
        where = {"device": device, "dtype": dtype}
        backward = self.backward_stack
        return XLSTMState(
            self.forward_stack.initial_state(batch_size, **where),
            () if backward is None else backward.initial_state(batch_size, **where),
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: XLSTMState | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, XLSTMState]:
        """Run a batch, one sequence or a packed batch.

        Args:
            input: (S, B, I), (B, S, I) if ``batch_first``, (S, I), or packed.
            state: What an earlier call returned, its samples in the order of this batch.
            lengths: int64 (B,), real positions of a right-padded batch; all when absent.

        Returns:
            Output of the input's kind with H (or 2 H) features, zero at padding; and the state
            after each sample's last real position. One sequence has a state of batch size 1.

        Raises:
            ValueError: If the input has other dimensions or features, or lengths come with a
                packed or single sequence.
        """
        if isinstance(input, PackedSequence):
            self._refuse(lengths, "a packed sequence")
            padded, sizes = pad_packed_sequence(input, batch_first=True)
            sizes = sizes.to(padded.device)
            output, state = self._run(padded, lengths_to_mask(sizes, padded.shape[1]), state)
            return _packed_like(input, output, sizes), state
        if input.dim() == 2:
            self._refuse(lengths, "a single sequence")
            output, state = self._run(input[None], None, state)
            return output[0], state
        x = input if self.batch_first or input.dim() != 3 else input.transpose(0, 1)
        mask = None if lengths is None else lengths_to_mask(lengths.to(x.device), x.shape[1])
        output, state = self._run(x, mask, state)
        return output if self.batch_first else output.transpose(0, 1), state

    def step(self, input: Tensor, state: XLSTMState) -> tuple[Tensor, XLSTMState]:
        """Run one position (B, I) to (B, H); pure and differentiable.

        Raises:
            ValueError: If the model is bidirectional.
        """
        if self.bidirectional:
            raise ValueError(
                "step was called on a bidirectional model; expected bidirectional=False, since the "
                "backward direction needs the whole sequence. Call the model on it."
            )
        output, forward = self.forward_stack.step(self.input_map(input), state.forward)
        return output, XLSTMState(forward, ())

    def _run(
        self, x: Tensor, mask: Tensor | None, state: XLSTMState | None
    ) -> tuple[Tensor, XLSTMState]:
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected two or three dimensions, the last of "
                f"size {self.input_size}. Check batch_first and input_size."
            )
        x = self.input_map(x)
        before = (None, None) if state is None else (state.forward, state.backward)
        ahead, forward = self.forward_stack(x, mask=mask, state=before[0])
        if self.backward_stack is None:
            return ahead, XLSTMState(forward, ())
        back, backward = self.backward_stack(_reversed(x, mask), mask=mask, state=before[1])
        joined = torch.cat([ahead, _reversed(back, mask)], dim=-1)
        return joined, XLSTMState(forward, backward)

    def _refuse(self, lengths: Tensor | None, what: str) -> None:
        if lengths is not None:
            raise ValueError(
                f"lengths came with {what}, which has its own; expected none. Leave lengths out."
            )


def _reversed(x: Tensor, mask: Tensor | None) -> Tensor:
    """Turn the real positions of right-padded (B, S, D) around, padding staying at the end."""
    if mask is None:
        return x.flip(1)
    place = torch.arange(x.shape[1], device=x.device)
    source = torch.where(mask, mask.sum(1, keepdim=True) - 1 - place, place)
    return x.gather(1, source[..., None].expand_as(x))


def _packed_like(packed: PackedSequence, output: Tensor, lengths: Tensor) -> PackedSequence:
    """Pack (B, S, F), in the batch's order, as another packed sequence was."""
    if packed.sorted_indices is not None:
        output, lengths = output[packed.sorted_indices], lengths[packed.sorted_indices]
    data = pack_padded_sequence(output, lengths.cpu(), batch_first=True).data
    return packed._replace(data=data)
