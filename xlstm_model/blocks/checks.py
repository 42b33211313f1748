"""Checks that blocks make on their settings and inputs before computing anything."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor


def check_at_least(minimum: float, **values: float) -> None:
    """Refuse settings below a minimum, naming the setting.

    Raises:
        ValueError: For the first value below the minimum or not finite.

    >>> check_at_least(1, num_heads=0)
    Traceback (most recent call last):
    ...
    ValueError: num_heads is 0; expected at least 1. Set num_heads to 1 or more.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= minimum):
            raise ValueError(
                f"{name} is {value}; expected at least {minimum}. Set {name} to {minimum} or more."
            )


def check_above_zero(**values: float) -> None:
    """Refuse settings that are zero, negative or not finite, naming the setting.

    Raises:
        ValueError: For the first such value.

    >>> check_above_zero(temperature=0.0)
    Traceback (most recent call last):
    ...
    ValueError: temperature is 0.0; expected a number above 0. Set temperature to one.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; expected a number above 0. Set {name} to one.")


def check_divides(divisor_name: str, divisor: int, name: str, value: int) -> None:
    """Refuse a divisor that does not divide, naming the divisors that do.

    Raises:
        ValueError: If the divisor is below 1 or leaves a remainder.

    >>> check_divides("num_heads", 3, "embedding_dim", 8)
    Traceback (most recent call last):
    ...
    ValueError: num_heads is 3; expected a divisor of embedding_dim = 8. Choose from 1, 2, 4, 8.
    """
    if divisor < 1 or value % divisor:
        divisors = [d for d in range(1, value + 1) if value % d == 0]
        raise ValueError(
            f"{divisor_name} is {divisor}; expected a divisor of {name} = {value}. "
            f"Choose from {', '.join(map(str, divisors[:12]))}."
        )


def check_choice(name: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a value outside a closed choice.

    Raises:
        ValueError: If the value is not among the allowed ones.

    >>> check_choice("gate", "relu", ("exp", "sigmoid"))
    Traceback (most recent call last):
    ...
    ValueError: gate is 'relu'; expected one of 'exp', 'sigmoid'. Set gate to one of them.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ValueError(
            f"{name} is {value!r}; expected one of {choices}. Set {name} to one of them."
        )


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside [0, 1).

    Raises:
        ValueError: If it is.
    """
    if not 0.0 <= dropout < 1.0:
        raise ValueError(
            f"dropout is {dropout}; expected 0 <= dropout < 1. Set dropout to a share such as 0.1."
        )


def check_input(x: Tensor, embedding_dim: int, mask: Tensor | None = None) -> None:
    """Refuse a sequence or mask of the wrong shape or type.

    Args:
        x: What the caller gave as (B, S, D).
        embedding_dim: D.
        mask: What the caller gave as bool (B, S).

    Raises:
        ValueError: If x is not (B, S ≥ 1, D) or the mask not (B, S).
        TypeError: If the mask is not bool.
    """
    if x.dim() != 3 or x.shape[-1] != embedding_dim or x.shape[1] < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (B, S, {embedding_dim}) with S at least 1. "
            "Use step for a single position (B, D)."
        )
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask has dtype {mask.dtype}; expected torch.bool, True where the position is real. "
            "Convert it with mask.bool()."
        )
    if mask.shape != x.shape[:2]:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; expected {tuple(x.shape[:2])}, one entry per "
            "position. Build it from lengths with xlstm_model.lengths_to_mask."
        )


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set padding positions of (B, S, D) to zero, by selection: NaN there disappears too.

    >>> zero_padding(torch.tensor([[[1.0], [float("nan")]]]), torch.tensor([[True, False]]))
    tensor([[[1.],
             [0.]]])
    """
    return x if mask is None else torch.where(mask[..., None], x, 0.0)
