"""Choosing a token from logits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from xlstm_model.blocks.checks import check_above_zero, check_at_least, check_choice

Strategy = Literal["greedy", "sample"]
"""Take the likeliest token, or draw one."""

ALL_TOKENS = 2**31
"""A ``top_k`` that keeps every token of any vocabulary."""


def keep_likeliest(logits: Tensor, top_k: int = ALL_TOKENS, top_p: float = 1.0) -> Tensor:
    """Set all but the likeliest tokens to −∞.

    First the ``top_k`` largest logits are kept (more where the last of them is tied), then, of
    their distribution, the smallest set of likeliest tokens that holds at least ``top_p`` of the
    probability (nucleus sampling, Holtzman et al. 2020, section 3.1). The likeliest always stays.

    Args:
        logits: (B, V).
        top_k: ≥ 1; any number from V up keeps all.
        top_p: 0 < top_p ≤ 1.

    Returns:
        (B, V).

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> keep_likeliest(logits, top_k=2).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    >>> keep_likeliest(logits, top_p=0.6).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if top_k < logits.shape[-1]:
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.sort(descending=True, stable=True)
        probability = ordered.softmax(-1)
        before = probability.cumsum(-1) - probability
        drop = (before >= top_p).scatter(1, order, before >= top_p)
        logits = logits.masked_fill(drop, float("-inf"))
    return logits


def choose_token(
    logits: Tensor,
    strategy: Strategy,
    *,
    temperature: float = 1.0,
    top_k: int = ALL_TOKENS,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose one token per sample.

    Args:
        logits: (B, V).
        strategy: ``greedy`` takes the largest logit and ignores the rest; ``sample`` draws.
        temperature: Divides the logits before drawing; > 0.
        top_k, top_p: See ``keep_likeliest``.
        generator: Source of randomness; torch's global one when absent.

    Returns:
        int64 (B,).

    >>> choose_token(torch.tensor([[0.0, 2.0, 1.0]]), "greedy")
    tensor([1])
    """
    if strategy == "greedy":
        return logits.argmax(-1)
    probability = keep_likeliest(logits / temperature, top_k, top_p).softmax(-1)
    return torch.multinomial(probability, 1, generator=generator).squeeze(1)


def check_sampling(strategy: str, temperature: float, top_k: int, top_p: float) -> None:
    """Refuse sampling arguments out of range.

    Raises:
        ValueError: Naming the first one.

    >>> check_sampling("sample", 1.0, 5, 0.0)
    Traceback (most recent call last):
    ...
    ValueError: top_p is 0.0; expected more than 0 and at most 1. 1 keeps every token.
    """
    check_choice("strategy", strategy, ("greedy", "sample"))
    check_above_zero(temperature=temperature)
    check_at_least(1, top_k=top_k)
    if not 0.0 < top_p <= 1.0:
        raise ValueError(
            f"top_p is {top_p}; expected more than 0 and at most 1. 1 keeps every token."
        )
