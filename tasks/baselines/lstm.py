"""LSTM core: the plain LSTM (Hochreiter and Schmidhuber 1997), with none of xLSTM's extensions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.baselines.padding import RightPadded, right_padded


class LSTMState(NamedTuple):
    """State of one layer: output ``h`` and cell ``c``, each (B, D)."""

    h: Tensor
    c: Tensor


class LSTMCore(nn.Module):
    """Causal sequence model of stacked LSTM layers, as wide as its input.

    Follows `xlstm_model.protocol.SequenceModel`. The state is a tuple with one `LSTMState` per
    layer.

    Args:
        embedding_dim: width D of inputs, outputs and hidden states.
        num_layers: LSTM layers.
        dropout: dropout on what each layer gives to the next, or to the head.

    >>> core = LSTMCore(8, num_layers=2)
    >>> outputs, state = core(torch.zeros(2, 5, 8))
    >>> outputs.shape, len(state), state[0].c.shape
    (torch.Size([2, 5, 8]), 2, torch.Size([2, 8]))
    """

    def __init__(self, embedding_dim: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.layers = nn.ModuleList(
            nn.LSTM(embedding_dim, embedding_dim, batch_first=True) for _ in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier input weights, orthogonal recurrent weights per gate, forget bias 1, others 0.

        A forget gate that starts open lets gradients through early on (Jozefowicz et al. 2015).
        """
        width = self.embedding_dim
        for layer in self.layers:
            for gate in range(4):
                rows = slice(gate * width, (gate + 1) * width)
                nn.init.xavier_uniform_(layer.weight_ih_l0.data[rows])
                nn.init.orthogonal_(layer.weight_hh_l0.data[rows])
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.zeros_(layer.bias_hh_l0)
            nn.init.ones_(layer.bias_ih_l0.data[width : 2 * width])  # torch's order: i, f, g, o

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: tuple[LSTMState, ...] | None = None
    ) -> tuple[Tensor, tuple[LSTMState, ...]]:
        """Maps (B, S, D) to (B, S, D); see `SequenceModel.forward`."""
        if state is None:
            state = self.initial_state(x.shape[0], device=x.device, dtype=x.dtype)
        padded = right_padded(x, mask)
        y = padded.x
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            inputs = y
            y, (_, c) = layer(inputs, (before.h[None], before.c[None]))
            if padded.mask is not None:
                c = _cells_after(layer, inputs, y, before, c[0], padded)[None]
            after.append(LSTMState(padded.last(y, before.h), c[0]))
            y = self.dropout(y)
        return padded.restore(y), tuple(after)

    def step(self, x: Tensor, state: tuple[LSTMState, ...]) -> tuple[Tensor, tuple[LSTMState, ...]]:
        """Maps one position (B, D); returns its output and the state after it."""
        y, after = self.forward(x[:, None], state=state)
        return y[:, 0], after

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[LSTMState, ...]:
        """Zeros (B, D) for h and c of every layer."""
        like = self.layers[0].weight_hh_l0
        zeros = torch.zeros(
            batch_size, self.embedding_dim, device=device or like.device, dtype=dtype or like.dtype
        )
        return tuple(LSTMState(zeros, zeros) for _ in self.layers)


def _cells_after(
    layer: nn.LSTM,
    inputs: Tensor,
    outputs: Tensor,
    before: LSTMState,
    at_end: Tensor,
    padded: RightPadded,
) -> Tensor:
    """Cell (B, D) after each row's last real position, where torch's kernel returns ``at_end``."""
    # A GPU is not asked which rows are padded, which would stop it; it computes all of them, and
    # so does an exported program.
    if at_end.device.type != "cpu" or torch.compiler.is_compiling():
        return _cell_at_last(layer, inputs, outputs, before, padded.mask)
    rows = (padded.lengths < inputs.shape[1]).nonzero()[:, 0]
    if len(rows) == 0:
        return at_end
    chosen = LSTMState(before.h[rows], before.c[rows])
    cells = _cell_at_last(layer, inputs[rows], outputs[rows], chosen, padded.mask[rows])
    return at_end.index_copy(0, rows, cells)


def _cell_at_last(
    layer: nn.LSTM, inputs: Tensor, outputs: Tensor, before: LSTMState, mask: Tensor
) -> Tensor:
    """Cell (B, D) after the last real position of right-padded rows.

    Once all outputs are known the gates need no recurrence, and the cell unrolls to
    c_T = sum_t exp(sum_{s > t} ln f_s) i_t g_t, where padding has ln f = 0 and i = 0.
    """
    rows = slice(0, 3 * layer.hidden_size)  # torch's order is i, f, g, o; o has no part in c
    weight = torch.cat([layer.weight_ih_l0[rows], layer.weight_hh_l0[rows]], dim=1)
    previous = torch.cat([before.h[:, None], outputs[:, :-1]], dim=1)
    gates = F.linear(
        torch.cat([inputs, previous], dim=2),
        weight,
        layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows],
    )
    i, f, g = gates.chunk(3, dim=-1)
    log_forget = F.logsigmoid(f).masked_fill(~mask[..., None], 0.0)
    running = log_forget.cumsum(1)
    written = torch.exp(running[:, -1:] - running) * torch.sigmoid(i) * torch.tanh(g)
    return (written * mask[..., None]).sum(1) + torch.exp(running[:, -1]) * before.c
