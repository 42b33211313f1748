"""SASRec core: causal self-attention with learned positions (Kang and McAuley 2018), pre-norm."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.baselines.padding import right_padded


class AttentionCache(NamedTuple):
    """Keys and values of one block, each (B, NH, L, DH); entries behind the length are unused."""

    keys: Tensor
    values: Tensor


class SASRecState(NamedTuple):
    """What a sequence leaves for its continuation.

    Attributes:
        lengths: (B,) int64, positions read so far.
        caches: one `AttentionCache` per block.
    """

    lengths: Tensor
    caches: tuple[AttentionCache, ...]


class SASRecCore(nn.Module):
    """Causal sequence model of pre-norm transformer blocks with learned absolute positions.

    Follows `xlstm_model.protocol.SequenceModel`. Positions count real events from 0 at the oldest,
    wherever padding stands. Dropout acts on inputs and on what each block adds, not on attention
    weights, which keeps the fused attention kernels.

    Args:
        embedding_dim: width D.
        num_layers: transformer blocks.
        num_heads: attention heads NH; divides ``embedding_dim``.
        max_seq_len: positions L that have an embedding; longer sequences are refused.
        dropout: dropout probability.
        feed_forward_factor: hidden width of the feed-forward part, in multiples of D.

    Raises:
        ValueError: ``num_heads`` does not divide ``embedding_dim``.

    >>> core = SASRecCore(8, num_heads=2, max_seq_len=6)
    >>> outputs, state = core(torch.zeros(2, 5, 8))
    >>> outputs.shape, state.lengths.tolist()
    (torch.Size([2, 5, 8]), [5, 5])
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_layers: int = 2,
        num_heads: int = 2,
        max_seq_len: int = 50,
        dropout: float = 0.0,
        feed_forward_factor: int = 1,
    ) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(
                f"num_heads is {num_heads}, which does not divide embedding_dim {embedding_dim}; "
                "expected a divisor."
            )
        self.embedding_dim = embedding_dim
        self.max_seq_len = max_seq_len
        self.num_heads = num_heads
        self.positions = nn.Embedding(max_seq_len, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(embedding_dim, num_heads, dropout, feed_forward_factor)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: SASRecState | None = None
    ) -> tuple[Tensor, SASRecState]:
        """Maps (B, S, D) to (B, S, D); see `SequenceModel.forward`.

        Raises:
            ValueError: more than ``max_seq_len`` positions, counting those in the state.
        """
        batch_size, seq_len, _ = x.shape
        padded = right_padded(x, mask)
        added = padded.lengths
        if added is None:
            added = torch.full((batch_size,), seq_len, device=x.device)
        if state is None:
            self._check_length(seq_len)
            y = padded.x + self.positions.weight[:seq_len]
        else:
            self._check_length(int((state.lengths + added).max()))
            index = state.lengths[:, None] + torch.arange(seq_len, device=x.device)
            y = padded.x + self.positions(index.clamp(max=self.max_seq_len - 1))
        y = self.dropout(y)
        caches = []
        for number, block in enumerate(self.blocks):
            if state is None:
                y, cache = block(y, self.max_seq_len)
            else:
                y, cache = block.extend(y, state.caches[number], state.lengths, added)
            caches.append(cache)
        lengths = added if state is None else state.lengths + added
        return padded.restore(self.norm(y)), SASRecState(lengths, tuple(caches))

    def step(self, x: Tensor, state: SASRecState) -> tuple[Tensor, SASRecState]:
        """Maps one position (B, D); returns its output and the state after it."""
        y, after = self.forward(x[:, None], state=state)
        return y[:, 0], after

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SASRecState:
        """Length 0 and empty caches."""
        like = self.positions.weight
        device = device or like.device
        shape = (
            batch_size,
            self.num_heads,
            self.max_seq_len,
            self.embedding_dim // self.num_heads,
        )
        zeros = torch.zeros(shape, device=device, dtype=dtype or like.dtype)
        lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return SASRecState(lengths, tuple(AttentionCache(zeros, zeros) for _ in self.blocks))

    def _check_length(self, length: int) -> None:
        if length > self.max_seq_len:
            raise ValueError(
                f"the sequence has {length} positions; expected at most max_seq_len = "
                f"{self.max_seq_len}, as only these have a learned embedding. Keep the most recent "
                "events, or train with a larger train.shared.max_seq_len."
            )


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each normalised before and added to the residual stream."""

    def __init__(
        self, embedding_dim: int, num_heads: int, dropout: float, feed_forward_factor: int
    ) -> None:
        super().__init__()
        hidden_dim = feed_forward_factor * embedding_dim
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.qkv = nn.Linear(embedding_dim, 3 * embedding_dim)
        self.attention_out = nn.Linear(embedding_dim, embedding_dim)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(embedding_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, embedding_dim),
        )
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, cache_len: int) -> tuple[Tensor, AttentionCache]:
        """Maps a whole sequence from its start.

        Args:
            x: (B, S, D).
            cache_len: size L of the returned cache, at least S.
        """
        queries, keys, values = self._heads(x)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        missing = (0, 0, 0, cache_len - x.shape[1])
        cache = AttentionCache(F.pad(keys, missing), F.pad(values, missing))
        return self._add(x, attended), cache

    def extend(
        self, x: Tensor, cache: AttentionCache, lengths: Tensor, added: Tensor
    ) -> tuple[Tensor, AttentionCache]:
        """Maps the continuation of a sequence.

        Args:
            x: (B, S, D), new positions, real ones first.
            cache: keys and values so far.
            lengths: (B,) positions in the cache.
            added: (B,) real positions among the new ones.
        """
        queries, new_keys, new_values = self._heads(x)
        slots = torch.arange(cache.keys.shape[2], device=x.device)
        source = slots - lengths[:, None]  # (B, L): which new position belongs in each slot
        is_new = ((source >= 0) & (source < added[:, None]))[:, None, :, None]
        source = source.clamp(0, x.shape[1] - 1)[:, None, :, None].expand_as(cache.keys)
        keys = torch.where(is_new, new_keys.gather(2, source), cache.keys)
        values = torch.where(is_new, new_values.gather(2, source), cache.values)
        position = lengths[:, None] + torch.arange(x.shape[1], device=x.device)
        visible = slots <= position[:, None, :, None]  # (B, 1, S, L)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return self._add(x, attended), AttentionCache(keys, values)

    def attention_weights(self, x: Tensor) -> Tensor:
        """Shares (B, NH, S, S) in which each position of (B, S, D) reads those up to itself."""
        queries, keys, _ = self._heads(x)
        scores = queries @ keys.transpose(-1, -2) * keys.shape[-1] ** -0.5
        future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        return scores.masked_fill(future, float("-inf")).softmax(dim=-1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, NH, S, DH)."""
        projected = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        return tuple(p.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in projected)

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream after attention (B, NH, S, DH) and feed-forward."""
        x = x + self.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
