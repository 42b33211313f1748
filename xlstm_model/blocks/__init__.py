"""Residual blocks around the two cells."""

from xlstm_model.blocks.mlstm import MLSTMBlock, MLSTMBlockState
from xlstm_model.blocks.mlstm_large import MLSTMLargeBlock
from xlstm_model.blocks.slstm import SLSTMBlock, SLSTMBlockState

__all__ = [
    "MLSTMBlock",
    "MLSTMBlockState",
    "MLSTMLargeBlock",
    "SLSTMBlock",
    "SLSTMBlockState",
]
