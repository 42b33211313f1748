"""GRU core: stacked gated recurrent units (Cho et al. 2014) over a sequence of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.baselines.padding import right_padded


class GRUCore(nn.Module):
    """Causal sequence model of stacked GRU layers, as wide as its input.

    Follows `xlstm_model.protocol.SequenceModel`. The state is a tuple with one tensor (B, D) per
    layer.

    Args:
        embedding_dim: width D of inputs, outputs and hidden states.
        num_layers: GRU layers.
        dropout: dropout on what each layer gives to the next, or to the head.

    >>> core = GRUCore(8)
    >>> outputs, state = core(torch.zeros(2, 5, 8))
    >>> outputs.shape, state[0].shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(self, embedding_dim: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.layers = nn.ModuleList(
            nn.GRU(embedding_dim, embedding_dim, batch_first=True) for _ in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier input weights, orthogonal recurrent weights per gate, zero biases."""
        for layer in self.layers:
            for gate in range(3):
                rows = slice(gate * self.embedding_dim, (gate + 1) * self.embedding_dim)
                nn.init.xavier_uniform_(layer.weight_ih_l0.data[rows])
                nn.init.orthogonal_(layer.weight_hh_l0.data[rows])
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.zeros_(layer.bias_hh_l0)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps (B, S, D) to (B, S, D); see `SequenceModel.forward`."""
        if state is None:
            state = self.initial_state(x.shape[0], device=x.device, dtype=x.dtype)
        padded = right_padded(x, mask)
        y = padded.x
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            y, _ = layer(y, before[None])
            after.append(padded.last(y, before))
            y = self.dropout(y)
        return padded.restore(y), tuple(after)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps one position (B, D); returns its output and the state after it."""
        y, after = self.forward(x[:, None], state=state)
        return y[:, 0], after

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, ...]:
        """Zeros (B, D) per layer."""
        like = self.layers[0].weight_hh_l0
        zeros = torch.zeros(
            batch_size, self.embedding_dim, device=device or like.device, dtype=dtype or like.dtype
        )
        return tuple(zeros for _ in self.layers)
