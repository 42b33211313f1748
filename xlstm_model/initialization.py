"""Initial values of gates, projections and embeddings, with their constants named."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MLSTM_FGATE_BIAS = (3.0, 6.0)
"""First and last head's forget-gate bias of an mLSTM block (Beck et al. 2024, appendix)."""

MLSTM_IGATE_BIAS_STD = 0.1
"""Standard deviation of an mLSTM block's input-gate bias, around 0."""

MLSTM_LARGE_IGATE_BIAS = -10.0
"""Input-gate bias of the 7B-style mLSTM block (Beck et al. 2025, arXiv 2503.13427)."""

SLSTM_FGATE_BIAS_TOP = 5.0
"""sLSTM forget-gate bias of the first unit of a head: the longest memory."""

SLSTM_FGATE_BIAS_SPAN = 12.0
"""How far the sLSTM forget-gate bias falls from the first to the last unit of a head."""

SLSTM_FGATE_EXPONENT = (0.3, 1.6)
"""Exponent of that fall in the first and in the last block of a stack."""

SMALL_INIT_VARIANCE = 2.0 / 5.0
"""Variance times fan-in of input projections (Nguyen and Salazar 2019, "small init")."""

EMBEDDING_STD = 0.02
"""Standard deviation of item, token, position and time-gap embeddings."""


def mlstm_fgate_bias(num_heads: int, bounds: tuple[float, float] = MLSTM_FGATE_BIAS) -> Tensor:
    """Forget-gate biases of an mLSTM block, equally spaced over heads.

    Args:
        num_heads: NH ≥ 1.
        bounds: First and last head's bias.

    Returns:
        (NH,); a single head gets the lower bound.

    >>> mlstm_fgate_bias(4)
    tensor([3., 4., 5., 6.])
    """
    return torch.linspace(*bounds, num_heads)


def slstm_fgate_bias(
    num_heads: int, head_dim: int, block_index: int = 0, num_blocks: int = 1
) -> Tensor:
    """Power-law forget-gate biases of an sLSTM block, from long to short memories in each head.

    ``5 − 12 (d / (DH − 1))^(0.3 + 1.3 b / (NB − 1))`` for unit d of block b, as in the authors'
    package. A head of size 1 has only unit d = 0 and a stack of one block only b = 0, where the
    two ratios would be 0/0; both are taken as 0.

    Args:
        num_heads: NH ≥ 1.
        head_dim: DH ≥ 1.
        block_index: Position b of the block in its stack, from 0.
        num_blocks: Blocks NB of the stack.

    Returns:
        (NH, DH), the same for each head.

    >>> slstm_fgate_bias(1, 3).round(decimals=3)
    tensor([[ 5.0000, -4.7470, -7.0000]])
    >>> slstm_fgate_bias(2, 1)
    tensor([[5.],
            [5.]])
    """
    unit = torch.arange(head_dim, dtype=torch.float64) / max(head_dim - 1, 1)
    first, last = SLSTM_FGATE_EXPONENT
    exponent = first + (last - first) * block_index / max(num_blocks - 1, 1)
    bias = SLSTM_FGATE_BIAS_TOP - SLSTM_FGATE_BIAS_SPAN * unit**exponent
    return bias.to(torch.get_default_dtype()).expand(num_heads, head_dim).clone()


@torch.no_grad()
def init_input_projection(weight: Tensor, fan_in: int) -> None:
    """Fill a projection into a block: N(0, 2 / (5 fan_in)).

    Args:
        weight: Changed in place.
        fan_in: Width of the residual stream, for block-diagonal projections too, as in the authors'
            package.
    """
    nn.init.normal_(weight, std=math.sqrt(SMALL_INIT_VARIANCE / fan_in))


@torch.no_grad()
def init_output_projection(weight: Tensor, embedding_dim: int, num_blocks: int) -> None:
    """Fill a projection back into the residual stream: N(0, (2 / num_blocks)² / D).

    The residual stream then keeps its scale whatever the depth (Wang and Komatsuzaki, GPT-J).

    Args:
        weight: Changed in place.
        embedding_dim: Width D of the residual stream.
        num_blocks: Blocks of the stack, ≥ 1.
    """
    nn.init.normal_(weight, std=2.0 / num_blocks / math.sqrt(embedding_dim))


@torch.no_grad()
def init_embedding(weight: Tensor) -> None:
    """Fill an embedding table: N(0, 0.02²).

    Args:
        weight: Changed in place.
    """
    nn.init.normal_(weight, std=EMBEDDING_STD)
