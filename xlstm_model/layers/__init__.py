"""Layers the blocks are made of."""

from xlstm_model.layers.block_diagonal import BlockDiagonalLinear
from xlstm_model.layers.causal_conv import CausalConv1d
from xlstm_model.layers.feed_forward import Activation, GatedFeedForward, round_up
from xlstm_model.layers.norm import FeatureNorm, HeadwiseNorm, NormKind

__all__ = [
    "Activation",
    "BlockDiagonalLinear",
    "CausalConv1d",
    "FeatureNorm",
    "GatedFeedForward",
    "HeadwiseNorm",
    "NormKind",
    "round_up",
]
