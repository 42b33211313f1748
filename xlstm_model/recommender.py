"""Next-item recommender around any sequence model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.blocks.checks import check_above_zero, check_at_least, check_choice, check_dropout
from xlstm_model.features import (
    PositionEmbedding,
    PositionKind,
    TimeGapEmbedding,
    given_times,
    previous_times,
)
from xlstm_model.initialization import init_embedding
from xlstm_model.padding import PADDING_ID, lengths_to_mask
from xlstm_model.pooling import Pooling, PoolingKind
from xlstm_model.protocol import SequenceModel
from xlstm_model.recommender_state import RecommenderState
from xlstm_model.repeats import RepeatBias, recent_after, repeats_at_the_end, repeats_everywhere

COSINE_TEMPERATURE = 1 / 16
"""Temperature of normalised scores (NISER, Gupta et al. 2019, uses σ = 16)."""


class SequenceRecommender(nn.Module):
    """Item embedding, sequence model, scores over the catalogue.

    Item ids run from 1 to ``num_items``; 0 is padding, whose embedding is zero and whose score is
    −∞. Scores come from the dot product of a hidden state with every item's vector.

    Args:
        num_items: Items in the catalogue, ≥ 1; scores have V = num_items + 1 columns.
        sequence_model: Follows ``SequenceModel``; its width is ``embedding_dim``.
        embedding_dim: Width D.
        tied: Score with the input embedding, or with a matrix of its own.
        dropout: On the embedded history, 0 ≤ dropout < 1.
        pooling: ``every`` gives a hidden state per position (training on all of them); ``last``,
            ``mean`` and ``attention`` give one per history.
        normalize: Score by cosine over ``temperature`` instead of the dot product.
        temperature: Divides normalised scores, > 0.
        time_gaps: Add an embedding of the time since the previous event; ``times`` are then needed.
        positions: Add a position embedding, ``learned`` or ``sinusoidal``.
        max_positions: Rows of the learned one; later positions share the last row.
        repeat_window: Learn a bias on the scores of items among the last so many events, ≥ 1;
            0 for none. Take at least the longest training window.

    Raises:
        ValueError: If a setting is out of range, or the sequence model has another width.

    >>> from xlstm_model import XLSTMStack
    >>> model = SequenceRecommender(5, XLSTMStack(8, "ms", num_heads=2), 8)
    >>> model(torch.tensor([[3, 1, 0], [2, 5, 4]])).shape
    torch.Size([2, 3, 6])
    >>> model.last_scores(torch.tensor([[3, 1, 0]]), torch.tensor([2]))[:, 0]
    tensor([-inf], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        num_items: int,
        sequence_model: SequenceModel,
        embedding_dim: int,
        *,
        tied: bool = True,
        dropout: float = 0.0,
        pooling: PoolingKind | Literal["every"] = "every",
        normalize: bool = False,
        temperature: float = COSINE_TEMPERATURE,
        time_gaps: bool = False,
        positions: PositionKind = "none",
        max_positions: int = 1024,
        repeat_window: int = 0,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        check_at_least(1, num_items=num_items, embedding_dim=embedding_dim)
        check_dropout(dropout)
        check_choice("pooling", pooling, ("every", "last", "mean", "attention"))
        check_choice("positions", positions, ("none", "learned", "sinusoidal"))
        check_above_zero(temperature=temperature)
        if sequence_model.embedding_dim != embedding_dim:
            raise ValueError(
                f"embedding_dim is {embedding_dim}; expected {sequence_model.embedding_dim}, the "
                "width of the sequence model. Build both with the same width."
            )
        inner = getattr(sequence_model, "settings", {"type": type(sequence_model).__name__})
        self.settings = {"type": "SequenceRecommender", **given, "sequence_model": inner}
        self.num_items, self.embedding_dim = num_items, embedding_dim
        self.normalize, self.temperature = normalize, temperature
        self.item_embedding = nn.Embedding(num_items + 1, embedding_dim, padding_idx=PADDING_ID)
        init_embedding(self.item_embedding.weight[1:])
        with torch.no_grad():
            self.item_embedding.weight[PADDING_ID].zero_()
        self.output_weight = None if tied else nn.Parameter(self.item_embedding.weight.clone())
        if not tied:
            init_embedding(self.output_weight[1:])
        padding_bias = torch.zeros(num_items + 1)
        padding_bias[PADDING_ID] = float("-inf")
        self.register_buffer("padding_bias", padding_bias, persistent=False)
        self.time_gaps = TimeGapEmbedding(embedding_dim) if time_gaps else None
        self.positions = None
        if positions != "none":
            self.positions = PositionEmbedding(embedding_dim, positions, max_positions)
        self.dropout = nn.Dropout(dropout)
        self.sequence_model = sequence_model
        self.pooling = None if pooling == "every" else Pooling(pooling, embedding_dim)
        self.repeats = RepeatBias(repeat_window) if repeat_window else None

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> RecommenderState:
        """State of B users without any event; device and dtype default to the parameters'."""
        weight = self.item_embedding.weight
        device, dtype = device or weight.device, dtype or weight.dtype
        none_yet = torch.zeros(batch_size, dtype=torch.int64, device=device)
        pooling: Any = ()
        recent: Any = ()
        if self.pooling is not None:
            pooling = self.pooling.initial_state(batch_size, device=device, dtype=dtype)
        sequence = self.sequence_model.initial_state(batch_size, device=device, dtype=dtype)
        if self.repeats is not None:
            recent = none_yet[:, None].repeat(1, self.repeats.window)
        return RecommenderState(sequence, none_yet, none_yet, pooling, recent)

    def encode(
        self,
        item_ids: Tensor,
        *,
        mask: Tensor | None = None,
        times: Tensor | None = None,
        state: RecommenderState | None = None,
        only_real: bool = False,
    ) -> tuple[Tensor, RecommenderState]:
        """Hidden states of histories, or of what comes after an earlier call's state.

        Args:
            item_ids: int64 (B, S), 0..num_items; padding may stand left or right.
            mask: Bool (B, S), True where real; ``item_ids != 0`` when absent.
            times: int64 (B, S) in microseconds; needed with ``time_gaps``, else without effect.
            state: Where an earlier call stopped; empty histories when absent.
            only_real: Padding stands right, and neither hidden states there nor the state are read.

        Returns:
            Hidden states (B, S, D), zero at padding, or (B, D) when pooled; and the state after
            each sample's last real event.

        Raises:
            ValueError: If ``times`` are needed and absent.
        """
        mask = item_ids != PADDING_ID if mask is None else mask
        first = torch.zeros_like(item_ids[:, 0])
        position, last_time = (first, first) if state is None else (state.position, state.last_time)
        places = position[:, None] + mask.long().cumsum(1) - 1
        x = self.item_embedding(item_ids)
        if self.time_gaps is not None:
            times = given_times(times)
            before = previous_times(times, mask, last_time)
            x = x + self.time_gaps(times - before[:, :-1], places == 0)
            last_time = before[:, -1]
        if self.positions is not None:
            x = x + self.positions(places.clamp(min=0))
        known, inner = None if only_real else mask, None if state is None else state.sequence
        hidden, sequence = self.sequence_model(self.dropout(x), mask=known, state=inner)
        pooled: Any = ()
        recent: Any = ()
        if self.pooling is not None:
            hidden, pooled = self.pooling(hidden, mask, None if state is None else state.pooling)
        if self.repeats is not None:
            before = item_ids.new_zeros(item_ids.shape[0], self.repeats.window)
            recent = recent_after(before if state is None else state.recent, item_ids, mask)
        return hidden, RecommenderState(sequence, position + mask.sum(1), last_time, pooled, recent)

    def step(
        self, item_ids: Tensor, state: RecommenderState, *, times: Tensor | None = None
    ) -> tuple[Tensor, RecommenderState]:
        """Take in one event per sample, as a server does; pure and differentiable.

        Args:
            item_ids: int64 (B,), 1..num_items.
            state: From ``initial_state``, ``encode`` or ``step``.
            times: int64 (B,) in microseconds; needed with ``time_gaps``.

        Returns:
            Hidden states (B, D), ready for ``head``, and the next state.

        Raises:
            ValueError: If ``times`` are needed and absent.
        """
        x, last_time = self.item_embedding(item_ids), state.last_time
        if self.time_gaps is not None:
            times = given_times(times)
            x = x + self.time_gaps(times - last_time, state.position == 0)
            last_time = times
        if self.positions is not None:
            x = x + self.positions(state.position)
        hidden, sequence = self.sequence_model.step(self.dropout(x), state.sequence)
        pooled: Any = ()
        if self.pooling is not None:
            real = torch.ones_like(item_ids, dtype=torch.bool)
            hidden, pooled = self.pooling(hidden[:, None], real[:, None], state.pooling)
        recent = state.recent
        if self.repeats is not None:
            recent = torch.cat([recent[:, 1:], item_ids[:, None]], dim=1)
        return hidden, RecommenderState(sequence, state.position + 1, last_time, pooled, recent)

    def item_vectors(self) -> Tensor:
        """Vectors (V, D) that items are scored with, before any normalising."""
        return self.item_embedding.weight if self.output_weight is None else self.output_weight

    def head(self, hidden: Tensor) -> Tensor:
        """Scores (..., V) of all items for hidden states (..., D); column 0 is −∞.

        Without a repeat bias, which needs the history: see ``position_scores``, ``next_scores``.
        """
        return F.linear(
            self._query(hidden), self._scored_vectors(self.item_vectors()), self.padding_bias
        )

    def score_items(self, hidden: Tensor, item_ids: Tensor) -> Tensor:
        """Scores (..., K) of K chosen items per hidden state; like ``head`` without a repeat bias.

        Args:
            hidden: (..., D).
            item_ids: int64 (..., K), or (K,) for the same items everywhere; padding scores −∞.
        """
        query = self._query(hidden)
        vectors = self._scored_vectors(F.embedding(item_ids, self.item_vectors()))
        if item_ids.dim() == 1:
            return F.linear(query, vectors, self.padding_bias[item_ids])
        return (vectors @ query[..., None]).squeeze(-1) + self.padding_bias[item_ids]

    def forward(
        self,
        item_ids: Tensor,
        *,
        mask: Tensor | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        """Scores of the next item: (B, S, V) after every position, or (B, V) when pooled.

        Arguments as for ``encode``.
        """
        mask = item_ids != PADDING_ID if mask is None else mask
        hidden, state = self.encode(item_ids, mask=mask, times=times)
        if self.pooling is not None:
            return self.next_scores(hidden, state)
        return self.position_scores(hidden, item_ids, mask)

    def position_scores(self, hidden: Tensor, item_ids: Tensor, mask: Tensor) -> Tensor:
        """Scores (B, S, V) after every position of whole histories.

        Args:
            hidden: (B, S, D) from ``encode`` of the same histories, from their beginning.
            item_ids: int64 (B, S).
            mask: Bool (B, S), True where real.
        """
        scores = self.head(hidden)
        if self.repeats is None:
            return scores
        repeats = repeats_everywhere(item_ids * mask, self.repeats.window)
        return self.repeats(scores.flatten(0, 1), repeats).view_as(scores)

    def next_scores(self, hidden: Tensor, state: RecommenderState) -> Tensor:
        """Scores (B, V) of the next item from the newest hidden state (B, D) and the state."""
        scores = self.head(hidden)
        if self.repeats is not None:
            scores = self.repeats(scores, repeats_at_the_end(state.recent))
        return scores

    def last_scores(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Scores (B, V) after each history's last real event; only that one goes through the head.

        Args:
            item_ids: int64 (B, S), right-padded.
            lengths: int64 (B,), 0..S. An empty history has hidden state 0, so all items tie.
            times: int64 (B, S) in microseconds; needed with ``time_gaps``.
        """
        lengths = lengths.to(item_ids.device)
        mask = lengths_to_mask(lengths, item_ids.shape[1])
        hidden, state = self.encode(item_ids, mask=mask, times=times)
        if self.pooling is None:
            last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[-1])
            hidden = hidden.gather(1, last).squeeze(1)
        return self.next_scores(hidden, state)

    def _query(self, hidden: Tensor) -> Tensor:
        return F.normalize(hidden, dim=-1) / self.temperature if self.normalize else hidden

    def _scored_vectors(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.normalize else vectors
