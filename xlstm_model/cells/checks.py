"""Checks of shapes and types shared by both cells."""

from __future__ import annotations

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], meaning: str) -> None:
    """Refuse a tensor of another shape.

    Raises:
        ValueError: If the shapes differ.

    >>> check_shape("k", torch.zeros(1, 2), (1, 3), "(B, S)")
    Traceback (most recent call last):
    ...
    ValueError: k has shape (1, 2); expected (1, 3), which is (B, S). Reshape or transpose it.
    """
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected {tuple(expected)}, which is "
            f"{meaning}. Reshape or transpose it."
        )


def check_mask(mask: Tensor | None, batch_size: int, seq_len: int) -> None:
    """Refuse a mask that is not bool (B, S).

    Raises:
        TypeError: If it is not bool.
        ValueError: If its shape differs.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask has dtype {mask.dtype}; expected torch.bool, True = real. Use mask.bool()."
        )
    check_shape("mask", mask, (batch_size, seq_len), "(B, S)")


def check_eps(eps: float) -> None:
    """Refuse a negative eps.

    Raises:
        ValueError: If it is negative or not a number.
    """
    if not eps >= 0:
        raise ValueError(f"eps is {eps}; expected 0 (exact) or more. The authors use 1e-6.")
