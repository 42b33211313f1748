"""The xLSTM library: cells, blocks, stacks, a recommender and a language model."""

from xlstm_model.blocks import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock
from xlstm_model.padding import PADDING_ID, lengths_to_mask
from xlstm_model.pattern import block_pattern
from xlstm_model.protocol import SequenceModel
from xlstm_model.recommender import RecommenderState, SequenceRecommender
from xlstm_model.stack import XLSTMStack

__all__ = [
    "PADDING_ID",
    "MLSTMBlock",
    "MLSTMLargeBlock",
    "RecommenderState",
    "SLSTMBlock",
    "SequenceModel",
    "SequenceRecommender",
    "XLSTMStack",
    "block_pattern",
    "lengths_to_mask",
]
