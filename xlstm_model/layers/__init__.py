"""Layers the blocks are made of."""

from xlstm_model.layers.block_diagonal import BlockDiagonalLinear
from xlstm_model.layers.causal_conv import CausalConv1d
from xlstm_model.layers.feed_forward import Activation, GatedFeedForward, round_up
from xlstm_model.layers.fused import MixedInputs, conv_silu, gated_merge, mlstm_inputs
from xlstm_model.layers.norm import FeatureNorm, HeadwiseNorm, NormKind

__all__ = [
    "Activation",
    "BlockDiagonalLinear",
    "CausalConv1d",
    "FeatureNorm",
    "GatedFeedForward",
    "HeadwiseNorm",
    "MixedInputs",
    "NormKind",
    "conv_silu",
    "gated_merge",
    "mlstm_inputs",
    "round_up",
]
