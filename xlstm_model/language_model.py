"""Language model around any sequence model: next-token loss and generation on recurrent state."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.blocks.checks import check_above_zero, check_at_least, check_dropout
from xlstm_model.blocks.mlstm_large import soft_cap
from xlstm_model.initialization import init_embedding
from xlstm_model.protocol import SequenceModel
from xlstm_model.sampling import ALL_TOKENS, Strategy, check_sampling, choose_token


class Generated(NamedTuple):
    """What ``generate`` returns.

    >>> from xlstm_model import XLSTMStack
    >>> model = XLSTMLanguageModel(10, XLSTMStack(8, "ms", num_heads=2))
    >>> model.generate(torch.tensor([[1], [2]]), max_new_tokens=3).lengths
    tensor([3, 3])
    """

    tokens: Tensor
    """New tokens int64 (B, T), T ≤ max_new_tokens; ``padding_token`` after a stop token."""
    lengths: Tensor
    """New tokens per sample int64 (B,), the stop token included."""
    state: Any
    """State of the sequence model after the last step."""


class XLSTMLanguageModel(nn.Module):
    """Token embedding, sequence model, logits over the vocabulary.

    Every token id 0..V−1 is an ordinary token; what is padding is said by a mask alone.

    Args:
        vocab_size: V ≥ 1.
        sequence_model: Follows ``SequenceModel``; its width D is that of the embedding.
        tied: Compute logits with the input embedding, or with a matrix of its own.
        dropout: On the embedded tokens, 0 ≤ dropout < 1.
        logit_cap: Logits are bounded smoothly to ± this (30 in xLSTM 7B, arXiv 2503.13427);
            infinity leaves them as they are.

    Raises:
        ValueError: If a setting is out of range.

    >>> from xlstm_model import XLSTMStack
    >>> model = XLSTMLanguageModel(10, XLSTMStack(8, "ms", num_heads=2))
    >>> model(torch.tensor([[1, 2, 3]]))[0].shape
    torch.Size([1, 3, 10])
    >>> model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4).tokens.shape
    torch.Size([1, 4])
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_model: SequenceModel,
        *,
        tied: bool = True,
        dropout: float = 0.0,
        logit_cap: float = math.inf,
    ) -> None:
        super().__init__()
        check_at_least(1, vocab_size=vocab_size)
        check_dropout(dropout)
        if logit_cap != math.inf:
            check_above_zero(logit_cap=logit_cap)
        inner = getattr(sequence_model, "settings", {"type": type(sequence_model).__name__})
        self.settings = {
            "type": "XLSTMLanguageModel",
            "vocab_size": vocab_size,
            "sequence_model": inner,
            "tied": tied,
            "dropout": dropout,
            "logit_cap": logit_cap,
        }
        self.vocab_size, self.logit_cap = vocab_size, logit_cap
        width = sequence_model.embedding_dim
        self.token_embedding = nn.Embedding(vocab_size, width)
        init_embedding(self.token_embedding.weight)
        self.output_weight = None if tied else nn.Parameter(torch.empty(vocab_size, width))
        if self.output_weight is not None:
            init_embedding(self.output_weight)
        self.dropout = nn.Dropout(dropout)
        self.sequence_model = sequence_model

    def initial_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """State before the first token; device and dtype default to the parameters'."""
        return self.sequence_model.initial_state(batch_size, device=device, dtype=dtype)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        tied = self.output_weight is None
        logits = F.linear(hidden, self.token_embedding.weight if tied else self.output_weight)
        return logits if self.logit_cap == math.inf else soft_cap(logits, self.logit_cap)

    def forward(
        self, tokens: Tensor, *, mask: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, Any]:
        """Logits of the token after every position.

        Args:
            tokens: int64 (B, S).
            mask: Bool (B, S), True where real, all when absent; left or right padding.
            state: Where an earlier call stopped.

        Returns:
            Logits (B, S, V) and the state after each sample's last real token.
        """
        x = self.dropout(self.token_embedding(tokens))
        hidden, state = self.sequence_model(x, mask=mask, state=state)
        return self.head(hidden), state

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) after one more token (B,) per sample; pure and differentiable."""
        x = self.dropout(self.token_embedding(tokens))
        hidden, state = self.sequence_model.step(x, state)
        return self.head(hidden), state

    def loss(self, tokens: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of every token given those before it.

        Args:
            tokens: int64 (B, S), S ≥ 2.
            mask: Bool (B, S); a pair of neighbours counts when both are real.

        Returns:
            Scalar, in nats per predicted token; 0 when no pair is real.

        Raises:
            ValueError: If S is below 2.

        >>> import math
        >>> from xlstm_model import XLSTMStack
        >>> model = XLSTMLanguageModel(10, XLSTMStack(8, "ms", num_heads=2))
        >>> abs(model.loss(torch.tensor([[1, 2, 3]])).item() - math.log(10)) < 0.5
        True
        """
        if tokens.shape[1] < 2:
            raise ValueError(
                f"tokens has {tokens.shape[1]} positions; expected at least 2, one input and one "
                "target. Give longer sequences."
            )
        logits, _ = self(tokens, mask=mask)
        targets = tokens[:, 1:]
        each = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")
        if mask is None:
            return each.mean()
        counted = mask[:, 1:] & mask[:, :-1]
        return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)

    @torch.no_grad()
    def generate(
        self,
        prompts: Tensor,
        *,
        max_new_tokens: int,
        mask: Tensor | None = None,
        strategy: Strategy = "greedy",
        temperature: float = 1.0,
        top_k: int = ALL_TOKENS,
        top_p: float = 1.0,
        stop_tokens: Collection[int] = (),
        padding_token: int = 0,
        generator: torch.Generator | None = None,
    ) -> Generated:
        """Go on after prompts of equal or unequal length, at constant cost per token.

        The prompts run through the model once; each new token is one ``step`` on the recurrent
        state. Dropout is off; the training mode is as before afterwards.

        Args:
            prompts: int64 (B, S).
            max_new_tokens: Tokens to add at most, ≥ 1.
            mask: Bool (B, S), True where real; each prompt has at least one token, padded left or
                right.
            strategy: ``greedy`` or ``sample``.
            temperature: Divides the logits before drawing, > 0.
            top_k: Draw from the k likeliest only, ≥ 1.
            top_p: Draw from the likeliest that hold this much probability, 0 < top_p ≤ 1.
            stop_tokens: A sample ends after the first of these; generation when all have.
            padding_token: Fills the rest of ended samples.
            generator: Source of randomness for ``sample``.

        Raises:
            ValueError: If an argument is out of range or a prompt is empty.
        """
        check_at_least(1, max_new_tokens=max_new_tokens)
        check_sampling(strategy, temperature, top_k, top_p)
        choose = partial(
            choose_token,
            strategy=strategy,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
        )
        stops = torch.tensor(sorted(stop_tokens), dtype=torch.int64, device=prompts.device)
        training = self.training
        self.eval()
        try:
            return self._continue(
                *self._read(prompts, mask), choose, stops, max_new_tokens, padding_token
            )
        finally:
            self.train(training)

    def _continue(
        self,
        logits: Tensor,
        state: Any,
        choose: Callable[[Tensor], Tensor],
        stops: Tensor,
        max_new_tokens: int,
        padding_token: int,
    ) -> Generated:
        """Choose and step until every sample has stopped or the budget is spent."""
        running = torch.ones_like(logits[:, 0], dtype=torch.bool)
        tokens, counts = [], []
        while True:
            token = choose(logits)
            tokens.append(torch.where(running, token, padding_token))
            counts.append(running)
            running = running & ~torch.isin(token, stops)
            if len(tokens) == max_new_tokens or not running.any():
                break
            logits, state = self.step(token, state)
        return Generated(torch.stack(tokens, 1), torch.stack(counts, 1).sum(1), state)

    def _read(self, prompts: Tensor, mask: Tensor | None) -> tuple[Tensor, Any]:
        """Logits after each prompt's last token, and the state there."""
        real = torch.ones_like(prompts, dtype=torch.bool) if mask is None else mask
        if prompts.dim() != 2 or not real.any(1).all():
            raise ValueError(
                f"prompts has shape {tuple(prompts.shape)} with an empty prompt; expected (B, S) "
                "with at least one real token per sample. Start empty ones with a first token."
            )
        hidden, state = self.sequence_model(self.token_embedding(prompts), mask=mask)
        place = torch.arange(prompts.shape[1], device=prompts.device)
        last = torch.where(real, place, 0).amax(1)
        hidden = hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)
        return self.head(hidden), state
